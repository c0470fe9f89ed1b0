"""Methods in a config: their parameters, what is searched, and what a missing base makes of them."""

from pathlib import Path
from typing import Any, get_args

import pytest
from bambo.config import base_notes, changed_keys, deciding, load, needs_base, run_settings, search_settings
from bambo.config.searches import Search
from bambo.errors import BadInput
from bambo.methods import METHODS
from demo_config import DEMO, ROOT, demo

BASE = {"model": "resources/models/base"}
THIRD = {**DEMO["sources"], "third": BASE}
SPAN = {"min": 0.1, "max": 0.5}
TWO = {"base": BASE}


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the demo are relative to the repository."""
    monkeypatch.chdir(ROOT)


def with_search(
    method: str, *, preset: str = "bambo-robust", sources: Any = None, **keys: Any
) -> dict[str, Any]:
    """The demo with one search "a", and a base, unless base=None."""
    changes = {"base": keys.pop("base", BASE), "sources": sources or DEMO["sources"]}
    return demo(**changes, searches={"a": {"preset": preset, "method": method, **keys}})


def message(config: dict[str, Any]) -> str:
    with pytest.raises(BadInput) as caught:
        load(config)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_all_methods_can_be_chosen() -> None:
    assert list(get_args(Search.model_fields["method"].annotation)) == list(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_settings_have_the_parameters_of_the_method_and_no_others(method: str) -> None:
    settings = search_settings(load(with_search(method)), "a")
    parameters = {key: settings[key] for key in ("density", "gamma", "epsilon", "lambda") if key in settings}
    assert parameters == METHODS[method].parameters
    assert ("rescale" in settings) == METHODS[method].random


def test_a_parameter_is_fixed_or_searched() -> None:
    settings = search_settings(load(with_search("breadcrumbs", density=SPAN, **{"lambda": 2})), "a")
    assert (settings["density"], settings["gamma"], settings["lambda"]) == (SPAN, 0.01, 2.0)


@pytest.mark.parametrize(
    ("method", "keys", "expected"),
    [
        ("ties", {"density": 0}, "searches.a.density: found 0, expected more than 0 and at most 1"),
        ("ties", {"density": 1.1}, "searches.a.density: found 1.1, expected more than 0 and at most 1"),
        (
            "ties",
            {"density": {"min": 0.5, "max": 1.2}},
            "searches.a.density: found 1.2, expected more than 0",
        ),
        (
            "ties",
            {"density": {"min": 0.5, "max": 0.5}},
            "searches.a.density: found min 0.5 and max 0.5, expected",
        ),
        ("ties", {"density": {"min": 0.5}}, "searches.a.density.max: missing, expected a number"),
        ("ties", {"density": {**SPAN, "maxx": 1}}, "searches.a.density.maxx: unknown key, did you mean max?"),
        ("ties", {"density": "low"}, "expected null, a number, or a table"),
        ("ties", {"gamma": 0.1}, "searches.a.gamma: of no use with method: ties"),
        ("linear", {"lambda": 2}, "searches.a.lambda: of no use with method: linear"),
        ("ties", {"lambda": 0}, "searches.a.lambda: found 0, expected more than 0"),
        ("breadcrumbs", {"gamma": 0.2}, "searches.a.gamma: found 0.2 with density 0.9, expected"),
        ("breadcrumbs", {"density": {"min": 0.2, "max": 1}}, "searches.a.gamma: found 0.01 with density 1"),
        ("della", {"epsilon": 0.5}, "searches.a.epsilon: found 0.5 with density 0.5, expected probabilities"),
        ("della", {"density": {"min": 0.1, "max": 0.5}}, "searches.a.epsilon: found 0.15 with density 0.1"),
        ("ties", {"rescale": "l1"}, "searches.a.rescale: of no use with method: ties"),
        ("dare_ties", {"rescale": "mean"}, "searches.a.rescale: found"),
        ("tie", {}, "did you mean ties?"),
        (
            "ties",
            {"preset": "baseline", "density": SPAN},
            "searches.a.density: found a range, expected a number",
        ),
        ("slerp", {"sources": THIRD}, "searches.a.method: found slerp with 3 sources, expected two"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(method: str, keys: dict[str, Any], expected: str) -> None:
    assert expected in message(with_search(method, **keys))


# Grids


def grid(sources: Any = None, **keys: Any) -> dict[str, Any]:
    return with_search("linear", preset="model-grid", sources=sources, **keys)


def test_weights_of_a_grid() -> None:
    def weights(config: dict[str, Any]) -> Any:
        settings = search_settings(load(config), "a")
        assert settings["n_initial"] == len(settings["weights"])
        return settings["weights"]

    assert weights(grid(weights=[0.5])) == [0.5]
    assert weights(grid(weights=3)) == [0.25, 0.5, 0.75]
    assert weights(grid(weights=9)) == pytest.approx(weights(grid()))
    assert weights(grid(THIRD, weights=[[0.2, 0.3, 0.5], [1, 0, 0]])) == [[0.2, 0.3, 0.5], [1, 0, 0]]


@pytest.mark.parametrize(
    ("sources", "weights", "expected"),
    [
        (None, [0.5, [0.5, 0.5]], "searches.a.weights[1]: found [0.5, 0.5], expected a number"),
        (
            THIRD,
            [[0.5, 0.5, 0], [0.5, 0.3, 0.1]],
            "weights[1]: found [0.5, 0.3, 0.1], expected 3 weights with sum 1",
        ),
        (THIRD, [[0.5, 0.5]], "searches.a.weights[0]: found [0.5, 0.5], expected 3 weights with sum 1"),
        (THIRD, [0.5], "searches.a.weights[0]: found 0.5, expected 3 weights with sum 1"),
        (THIRD, [[0.5, 1.5, -1]], "searches.a.weights[0][1]: found 1.5, expected a number from 0 to 1"),
        (THIRD, 9, "searches.a.weights: found 9, expected a list of lists, each of 3 weights with sum 1"),
        (None, 0, "searches.a.weights: found 0, expected null, a whole number of at least 1, or a list"),
    ],
)
def test_weights_that_are_none(sources: Any, weights: Any, expected: str) -> None:
    assert expected in message(grid(sources, weights=weights))


# Sources


def test_sources_are_two_or_more_and_differ() -> None:
    config = load(with_search("linear", sources=THIRD))
    assert list(config.sources) == ["thinking", "instruct", "third"]
    same = {**THIRD, "again": DEMO["sources"]["instruct"]}
    assert message(with_search("linear", sources=same)).startswith(
        "sources.again: found the model of sources.instruct"
    )
    adapted = {name: {**BASE, "adapter": f"a/{name}"} for name in ("x", "y")}
    objectives = {key: {**own, "expert": "x", "base": "y"} for key, own in DEMO["objectives"].items()}
    load(demo(sources=adapted, files_from="x", objectives=objectives))


def test_a_source_has_no_name_of_a_parameter_where_variables_carry_it() -> None:
    sources = {**DEMO["sources"], "density": BASE}
    assert message(with_search("linear", sources=sources)).startswith(
        "sources.density: a variable may be called so"
    )


# The base


def test_a_weight_that_cancels_out_is_refused_with_the_reason() -> None:
    found = message(with_search("ties", base=None))
    assert found.startswith(
        "searches.a.method: found ties, but no base is set, and instruct, the last source, serves"
    )
    assert "one task vector, that of thinking, whose weight cancels out" in found
    assert "without_base: leave-out" in found
    found = message(with_search("della", base=DEMO["sources"]["thinking"]))
    assert (
        "but base is the model of sources.thinking, so that della has one task vector, that of instruct"
        in found
    )
    load(with_search("ties"))
    load(with_search("ties", base=None, sources=THIRD))
    for method, own in METHODS.items():
        if not own.weightless:
            load(with_search(method, base=None))


def test_it_is_left_out_where_asked() -> None:
    searches = {
        "a": {"preset": "baseline", "method": "ties"},
        "b": {"preset": "baseline", "method": "dare_ties"},
    }
    config = load(demo(searches=searches))
    assert list(config.searches) == ["b"]
    assert list(config.left_out) == ["a"]
    assert "ties has one task vector" in config.left_out["a"]
    assert load(demo(base=BASE, searches=searches)).left_out == {}
    assert message(demo(searches={"a": searches["a"]})).startswith(
        "searches: all are left out for want of a base"
    )


def test_what_a_missing_base_makes_of_the_methods_in_use() -> None:
    methods = ["linear", "task_arithmetic", "dare_linear", "breadcrumbs_ties"]
    searches = {name: {"preset": "baseline", "method": name} for name in methods}
    notes = base_notes(load(demo(searches=searches)))
    serving = "no base is set, and instruct, the last source, serves as the base of"
    assert notes == {
        "task_arithmetic": f"searches.task_arithmetic: {serving} task_arithmetic: its task vector is zero, "
        "task_arithmetic is the same as linear",
        "dare_linear": f"searches.dare_linear: {serving} dare_linear: its task vector is zero, only thinking is "
        "sparsified",
        "breadcrumbs_ties": f"searches.breadcrumbs_ties: {serving} breadcrumbs_ties: its task vector is zero, only "
        "thinking is sparsified, with one task vector the consensus changes nothing",
    }
    assert base_notes(load(demo(searches=searches, base=BASE))) == {}
    three = base_notes(load(demo(searches={"ties": {"method": "ties"}}, sources=THIRD)))
    assert three["ties"].endswith("its task vector is zero, only thinking and instruct are sparsified")


def test_when_the_base_is_needed() -> None:
    assert needs_base(load(with_search("ties")))
    assert not needs_base(load(with_search("linear")))
    assert not needs_base(load(with_search("task_arithmetic")))
    assert needs_base(load(with_search("task_arithmetic", **{"lambda": 0.8})))
    assert not needs_base(load(with_search("dare_ties", base=None)))


def test_what_decides_a_search_with_a_method() -> None:
    old = with_search("dare_ties")

    def changed(new: dict[str, Any], before: dict[str, Any] = old) -> list[str]:
        return changed_keys(deciding(load(before), "a"), deciding(load(new), "a"))

    assert changed(with_search("dare_ties", density=0.3)) == ["searches.a.density"]
    assert changed(with_search("dare_ties", density=SPAN)) == [
        *["searches.a.density.min", "searches.a.density.max", "searches.a.density"]
    ]
    assert changed(with_search("dare_ties", base={"model": "a/b"})) == ["base.model"]
    assert changed(old | {"merge": {"seed": 1}}) == ["merge.seed"]
    assert changed(with_search("dare_ties", without_base="leave-out")) == []
    # None of it is of any concern to linear merging.
    linear = with_search("linear")
    assert changed(linear | {"base": None, "merge": {"seed": 1, "device": "cuda"}}, linear) == []
    assert changed_keys(
        run_settings(load(linear)), run_settings(load(linear | {"merge": {"vocabulary": "match"}}))
    ) == ["merge.vocabulary"]


def test_a_gpu_merges_into_files_alone() -> None:
    found = message(demo(merge={"device": "cuda", "materialize": False}))
    assert found == "merge.device: found cuda, of no use with materialize: false; remove it"


@pytest.mark.parametrize("name", ["baselines", "demo-baselines", "demo-three", "qwen3-4b", "qwen3-4b-paper"])
def test_the_configs_of_the_repository_load(name: str) -> None:
    import yaml

    config = load(yaml.safe_load(Path(f"config/{name}.yaml").read_text()))
    assert config.left_out == {}
    if "baselines" in name:
        assert {search.method for search in config.searches.values()} == set(METHODS)
        budget = [search_settings(config, search) for search in ("blocks", "layers")]
        asked = {each["n_initial"] + each["iterations"] * each["batch_size"] for each in budget}
        assert asked == {search_settings(config, "task_arithmetic_fine")["n_initial"]}
