"""Searches on a problem of one's own: who is asked and told what, and what is refused."""

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bambo.errors import BadInput
from bambo.pareto import non_dominated
from bambo.search import Search, session
from bambo.search.ask import OPTIMISERS
from bambo.search.design import warm_start
from bambo.search.presets import PRESETS
from fake_run import plain

SMALL = {"restarts": 2, "raw_samples": 32, "mc_samples": 16}


pytestmark = pytest.mark.usefixtures("one_thread")


def small(preset: str, dimension: int = 3, **others: Any) -> Search:
    settings: dict[str, Any] = {"seed": 1, **SMALL, **others}
    return Search(preset, dimension, **settings)


def toy(X: np.ndarray) -> np.ndarray:
    return np.column_stack([X.mean(axis=1), 1 - X[:, 0] ** 2])


def run(search: Search, batches: list[int]) -> np.ndarray:
    for q in batches:
        X = search.ask(q)
        search.tell(X, toy(X))
    return search.X


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_asked_and_told(preset: str) -> None:
    search = small(preset)
    X = run(search, [4, 4, 2, 1])
    assert X.shape == (11, 3)
    assert len(np.unique(np.concatenate([X, search.ask(2)]), axis=0)) == 13
    assert ((X >= 0) & (X <= 1) & (X.round(6) == X)).all()
    assert (toy(X) == search.Y).all()
    if PRESETS[preset]["granularity"] == "model":
        assert (X[:, :1] == X).all()
    assert (run(small(preset), [4, 4, 2, 1]) == X).all()


def test_the_initial_design_is_the_workflows_point_by_point() -> None:
    design = warm_start(plain(3), ("a", "b"), 8, seed=1)[0]
    search = small("bambo-robust")
    found = [search.ask(1)[0] for _ in range(8)]
    assert (np.array(found) == design).all()
    # Nobody was told, so that there is nothing to learn from: the design goes on.
    assert (search.ask(3) == warm_start(plain(3), ("a", "b"), 11, seed=1)[0][8:]).all()


def test_a_grid_is_handed_out_first() -> None:
    search = small("model-grid", weights=3)
    assert search.ask(3).tolist() == [[0.25] * 3, [0.5] * 3, [0.75] * 3]
    assert small("model-grid").ask(9)[:, 0].tolist() == PRESETS["model-grid"]["weights"]


def test_points_that_were_told_before_are_not_asked_for() -> None:
    search = small("sobol")
    own = warm_start(plain(3), ("a", "b"), 12, seed=1)[0]
    search.tell(own[[0, 5, 9]], toy(own[[0, 5, 9]]))
    assert (search.ask(9) == own[[1, 2, 3, 4, 6, 7, 8, 10, 11]]).all()


def test_pending_points_are_kept_track_of() -> None:
    """What is under way is the same whether the caller says so or not, and makes a difference."""

    def begun() -> Search:
        search = small("bambo-robust")
        run(search, [8])
        return search

    silent, saying, other = begun(), begun(), begun()
    X = silent.ask(1)
    assert (saying.ask(1) == X).all()
    assert (other.ask(1) == X).all()
    after = silent.ask(1)
    assert (saying.ask(1, pending=X) == after).all()
    assert (other.ask(1, pending=[]) != after).any()


def test_a_point_that_failed_is_neither_pending_nor_asked_for_again() -> None:
    search = small("bambo-robust")
    X = search.ask(8)
    search.tell(X[:7], toy(X[:7]))
    more = search.ask(2, pending=[])
    assert len(np.unique(np.concatenate([X, more]), axis=0)) == 10


def test_the_order_of_telling_does_not_matter_to_the_optimiser() -> None:
    one, other = small("bambo-robust"), small("bambo-robust")
    X = one.ask(8)
    assert (other.ask(8) == X).all()
    one.tell(X, toy(X))
    back = X[::-1]
    other.tell(back[:3], toy(back[:3]))
    other.tell(back[3:], toy(back[3:]))
    assert (back == other.X).all()
    assert (one.ask(1) == other.ask(1)).all()


def test_fronts_are_rows_of_what_was_told() -> None:
    search = small("sobol")
    assert [front.tolist() for front in search.best()] == [[], []]
    X = search.ask(12)
    lucky = toy(X) + np.array([[0.6, 0.6]]) * (np.arange(12) == 7)[:, None]
    search.tell(X, lucky, np.full_like(lucky, 0.3))
    observed, posterior = search.best(members=3)
    assert (observed == np.flatnonzero(non_dominated(lucky))).all()
    assert len(posterior) <= 3
    assert small("sobol", reference=[0, 0, 0]).best().observed.size == 0


def test_noise_and_importance_reach_the_surrogate() -> None:
    X = small("bambo-robust").ask(8)
    Y = toy(X) + 0.05 * np.random.default_rng(0).standard_normal((8, 2))
    found = []
    for variance, importance in [(None, None), (0.2, None), (None, [0.1, 0.1, 1])]:
        search = small("ap-bmm", importance=importance)
        search.tell(X, Y, None if variance is None else np.full_like(Y, variance))
        found.append(search.ask(1))
    assert (found[0] != found[1]).any()
    assert (found[0] != found[2]).any()


def test_no_importance_is_said(caplog: pytest.LogCaptureFixture) -> None:
    small("ap-bmm")
    assert "importance: none is given" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "bambo-robus"}, "preset: found .*; did you mean bambo-robust?"),
        ({"dimension": 0}, "dimension: found 0, expected a whole number of 1 or more"),
        ({"dimension": 2.5}, "dimension: found 2.5, expected a whole number"),
        ({"kernle": "rbf"}, "kernle: unknown key, did you mean kernel?"),
        ({"kernel": "rfb"}, "kernel: found the text \"rfb\", expected one of rbf, matern52"),
        ({"seed": -1}, "seed: found -1, expected a whole number from 0"),
        ({"start_from": "a"}, "start_from: of no use"),
        ({"reference": [[0, 0]]}, r"reference: found shape \[1, 2\], expected \[m\]"),
        ({"importance": [1]}, r"importance: found shape \[1\], expected \[3\], one a variable"),
        ({"importance": [0, 1, 1]}, r"importance: found 0 to 1, expected \(0, 1\]"),
    ],
)  # fmt: skip
def test_arguments_that_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        Search(**{"preset": "sobol", "dimension": 3, **arguments})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("X", "Y", "variance", "message"),
    [
        ([[0, 0]], [[1, 1]], None, r"X: found shape \[1, 2\], expected \[n x 3\], a row a point"),
        ([0, 0, 0], [[1, 1]], None, r"X: found shape \[3\], expected \[n x 3\]"),
        ([[0, 0, 2]], [[1, 1]], None, "X: found 2, expected weights within 0 and 1"),
        ([[0, -1, 0]], [[1, 1]], None, "X: found -1, expected weights within 0 and 1"),
        ([[0, 0, np.nan]], [[1, 1]], None, "X: found NaN or infinity, expected numbers"),
        ([[0, 0, 0]], [[1, np.nan]], None, "Y: found NaN .*; leave failed evaluations out"),
        ([[0, 0, 0]], [[1, 1], [1, 1]], None, r"Y: found shape \[2, 2\], expected \[1 x m\]"),
        ([[0, 0, 0]], [[1]], None, r"Y: found 1 objective\(s\), expected 2 or more"),
        ([[0, 0, 0]], [["a", 1]], None, "Y: found no array of numbers"),
        ([[0, 0, 0]], [[1, 1]], [[0]], r"variance: found shape \[1, 1\], expected \[1 x 2\], as Y has"),
        ([[0, 0, 0]], [[1, 1]], [[0, -1]], "variance: found -1, expected numbers of 0 or more"),
    ],
)
def test_observations_that_are_refused(X: Any, Y: Any, variance: Any, message: str) -> None:
    search = small("sobol")
    with pytest.raises(BadInput, match=message):
        search.tell(X, Y, variance)
    assert search.X.shape == (0, 3)


def test_more_that_is_refused() -> None:
    search = small("sobol", reference=[0, 0])
    with pytest.raises(BadInput, match=r"Y: found shape \[1, 3\], expected \[1 x 2\]"):
        search.tell([[0, 0, 0]], [[1, 1, 1]])
    with pytest.raises(BadInput, match="q: found 0, expected a whole number of 1 or more"):
        search.ask(0)
    with pytest.raises(BadInput, match=r"pending: found shape \[1, 1\]"):
        search.ask(1, pending=[[0.5]])
    with pytest.raises(BadInput, match="found a row of different weights, expected equal ones"):
        small("model-grid").tell([[0, 0, 1]], [[1, 1]])


def test_the_examples_run() -> None:
    assert doctest.testmod(session, raise_on_error=True).attempted > 5
    page = Path(__file__).parents[2] / "docs/searches.md"
    assert doctest.testfile(str(page), module_relative=False, raise_on_error=True).attempted > 5


def test_the_page_on_searches_has_every_preset_and_optimiser() -> None:
    text = (Path(__file__).parents[2] / "docs/searches.md").read_text()
    assert [name for name in [*PRESETS, *OPTIMISERS] if f"`{name}`" not in text] == ["bayesian"]


def test_presets_are_imported_without_the_search() -> None:
    heavy = "'torch', 'pydantic', 'pandas', 'pymoo', 'optuna', 'cma'"
    code = f"import sys, bambo.search.presets; assert not {{{heavy}}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
