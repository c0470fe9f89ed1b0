"""Which settings of a search its optimiser has a use for."""

from typing import Any

import pytest
from bambo.config import load
from bambo.errors import BadInput
from bambo.search.ask import OPTIMISERS
from demo_config import demo


def with_search(**keys: Any) -> dict[str, Any]:
    return demo(searches={"a": keys})


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_what_serves_the_posterior_front_is_of_use_to_all(optimiser: str) -> None:
    surrogate = {"kernel": "matern52", "noise": "inferred", "mean_input": True, "schedule": "async"}
    assert load(with_search(optimiser=optimiser, **surrogate)).searches["a"].optimiser == optimiser


@pytest.mark.parametrize(
    ("preset", "key", "value"),
    [
        ("nsga2", "acquisition", "qehvi"),
        ("nsga2", "acquisition", "qlognehvi"),  # said by the user, though the preset's
        ("moead", "reference", "worst"),
        ("cma-es", "mc_samples", 64),
        ("motpe", "restarts", 4),
        ("map", "raw_samples", 64),
        ("sobol", "gap_reward", 0.25),
        ("momm", "gap_reward", 0.25),
        ("mm-mo", "proximity_penalty", 0.15),
    ],
)
def test_what_only_an_acquisition_function_has_a_use_for(preset: str, key: str, value: Any) -> None:
    with pytest.raises(
        BadInput, match=rf"^searches\.a\.{key}: of no use with optimiser: {preset}; remove it$"
    ):
        load(with_search(preset=preset, **{key: value}))


def test_those_with_an_acquisition_function_may_have_another() -> None:
    for preset in ("mm-mo", "momm", "qnehvi"):
        load(with_search(preset=preset, acquisition="qehvi", reference="worst", restarts=4))


def test_an_unknown_optimiser_is_named_with_the_nearest_one() -> None:
    with pytest.raises(BadInput, match=r"^searches\.a\.optimiser: found .*; did you mean nsga2\?$"):
        load(with_search(optimiser="nsga3"))


@pytest.mark.parametrize("preset", ["nsga2", "map"])
def test_a_box_is_for_those_that_keep_to_it(preset: str) -> None:
    searches = {"coarse": {}, "fine": {"preset": preset, "start_from": "coarse", "box": 0.1}}
    with pytest.raises(BadInput, match=rf"searches\.fine\.box: of no use with optimiser: {preset}, which"):
        load(demo(searches=searches))
    searches["fine"]["preset"] = "momm"
    load(demo(searches=searches))
