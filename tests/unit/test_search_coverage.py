"""Reranking by coverage of the front: where the published formulas fail, and that each part can be off."""

from typing import Any

import numpy as np
import pytest
from bambo.errors import BadInput
from bambo.search import acquisition, coverage, surrogate
from bambo.search.ask import ask
from bambo.search.design import sobol
from bambo.search.presets import PRESETS
from bambo.search.study import Study
from hypothesis import given
from hypothesis import strategies as st

REFERENCE = np.array([-0.1, -0.1])
SMALL = {"restarts": 2, "raw_samples": 32, "mc_samples": 16}
OFF = {"gap_reward": 0.0, "proximity_penalty": 0.0}


pytestmark = pytest.mark.usefixtures("one_thread")


def settings(**others: Any) -> dict[str, Any]:
    return {**PRESETS["bambo-robust"], **SMALL, **others}


def toy(X: np.ndarray) -> np.ndarray:
    return np.stack([X[:, 0], 1 - X.mean(axis=1) ** 2], axis=1)


def study_of(dimension: int = 3, n: int = 10, pending: int = 0) -> Study:
    X = sobol(dimension, n + pending, seed=0)
    X, waiting = X[:n], X[n:]
    asked = np.concatenate([X, waiting])
    return Study(
        X, toy(X), np.full((n, 2), 1e-4), asked=asked, pending=waiting, reference=REFERENCE, names=["a", "b"]
    )


def fitted(study: Study, **others: Any) -> Any:
    return surrogate.fit(study.X, study.Y, study.variance, settings(**others))


def published_gap(mean: np.ndarray, front: np.ndarray) -> np.ndarray:
    """AP-BMM's formula: gaps between neighbours on the observed front alone."""
    front = front[np.argsort(front[:, 0])]
    length = np.linalg.norm(np.diff(front, axis=0), axis=1)
    centre = (front[1:] + front[:-1]) / 2
    sigma = np.linalg.norm(np.ptp(front, axis=0)) / (len(front) - 1)
    squares = ((mean[:, None] - centre) ** 2).sum(axis=-1)
    return (length / length.max() * np.exp(-squares / (2 * sigma**2))).max(axis=1)


def published_proximity(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(points[:, None] - others, axis=-1).min(axis=1)
    return np.exp(-4 * distances)


def stretched(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / np.ptp(values)


# ----------------------------------------------------------------------------------------------------------- gaps


def test_the_middle_of_the_longest_gap_earns_most() -> None:
    front = np.array([[0.0, 1.0], [0.1, 0.95], [0.6, 0.6], [0.7, 0.5], [1.0, 0.0]])
    middles = (front[1:] + front[:-1]) / 2
    found = coverage.gap(middles, front, REFERENCE)
    assert found.argmax() == 1
    assert found[1] == pytest.approx(1)
    assert (coverage.gap(front, front, REFERENCE) < found[1]).all()


def test_the_ends_of_the_front_earn_a_gap() -> None:
    """A front of close neighbours far from one end: what lies there is the gap, and the published formula sees none."""
    front = np.array([[0.6, 0.80], [0.7, 0.78], [0.8, 0.75]])
    candidates = np.array([[0.25, 0.80], [0.65, 0.79]])
    beyond, between = coverage.gap(candidates, front, REFERENCE)
    assert beyond > 0.8
    assert beyond > 2 * between
    published = published_gap(candidates, front)
    assert published[0] < 0.01 < published[1]


def test_a_front_of_one_point_has_two_gaps() -> None:
    found = coverage.gap(np.array([[0.2, 0.5], [0.5, 0.2], [0.5, 0.5]]), np.array([[0.5, 0.5]]), REFERENCE)
    assert found[0] == pytest.approx(found[1])
    assert found[0] > found[2]


def test_what_is_below_the_reference_has_no_part_in_gaps() -> None:
    front = np.array([[0.2, 0.8], [0.8, 0.2]])
    candidates = sobol(2, 16, seed=0)
    more = np.concatenate([front, [[-0.5, 3.0]]])
    np.testing.assert_array_equal(
        coverage.gap(candidates, front, REFERENCE), coverage.gap(candidates, more, REFERENCE)
    )
    np.testing.assert_array_equal(coverage.gap(candidates, front - 2, REFERENCE), 0)


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=1, max_size=6, unique=True),
    st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
)
def test_gaps_lie_in_the_unit_interval_and_know_no_units(points: list, unit: tuple) -> None:
    front = np.array(points)
    front = front[coverage.non_dominated(front)]
    candidates, unit = 1.2 * sobol(2, 32, seed=0) - 0.1, np.array(unit)
    found = coverage.gap(candidates, front, REFERENCE)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(
        coverage.gap(unit * candidates, unit * front, unit * REFERENCE), found, atol=1e-9
    )


# ------------------------------------------------------------------------------------------------------ proximity


def test_proximity_means_something_whatever_the_number_of_variables() -> None:
    """The same change of every variable is as near in 37 as in one; published, 37 variables are all far apart."""
    for dimension in (1, 8, 37):
        weights = np.full(dimension, 1 / dimension)
        points, other = np.full((1, dimension), 0.6), np.full((1, dimension), 0.5)
        assert coverage.proximity(points, other, weights)[0] == pytest.approx(np.exp(-0.4))
    assert published_proximity(np.full((1, 1), 0.6), np.full((1, 1), 0.5))[0] == pytest.approx(np.exp(-0.4))
    assert published_proximity(points, other)[0] < 0.1
    random = sobol(37, 64, seed=0)
    assert coverage.proximity(random[1:], random[:1], weights).mean() > 0.1
    assert published_proximity(random[1:], random[:1]).max() < 1e-3


def test_distances_go_by_the_lengthscales() -> None:
    """Variables without effect keep no two points apart; published, all variables are alike."""
    study = study_of(8, 40)
    Y = np.stack([np.sin(4 * study.X[:, 0]), np.cos(4 * study.X[:, 0])], axis=1)
    model = surrogate.fit(study.X, Y, study.variance, settings())
    weights = coverage.relevance(model)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > 0.9
    here = np.full((1, 8), 0.5)
    same, other = here.copy(), here.copy()
    same[0, 1:] = 0.9
    other[0, 0] = 0.9
    nearer, farther = coverage.proximity(np.concatenate([same, other]), here, weights)
    assert nearer > 0.7
    assert farther < 0.3
    published = published_proximity(np.concatenate([same, other]), here)
    assert published[0] < published[1]


def test_objectives_are_averaged_in_squared_distance() -> None:
    study = study_of(2, 40)
    Y = np.stack([np.sin(4 * study.X[:, 0]), np.cos(4 * study.X[:, 1])], axis=1)
    model = surrogate.fit(study.X, Y, study.variance, settings())
    alone = [1 / found**2 / (1 / found**2).sum() for found in surrogate.lengthscales(model)]
    np.testing.assert_allclose(coverage.relevance(model), np.mean(alone, axis=0))
    np.testing.assert_allclose(coverage.relevance(model), [0.5, 0.5], atol=0.1)


def test_nothing_under_way_is_near_nothing() -> None:
    assert (coverage.proximity(sobol(3, 4, 0), np.empty((0, 3)), np.full(3, 1 / 3)) == 0).all()


# ------------------------------------------------------------------------------------------------------- choosing


def test_differences_of_no_size_decide_nothing() -> None:
    """Far from everything, the better acquisition wins; published, noise is stretched to the size of a penalty."""
    study = study_of(37, 12, pending=1)
    model = fitted(study)
    corner = 1 - np.round(study.pending[0])
    pool = corner + np.array([[1e-6], [0.0], [2e-6]]) * (0.5 - corner)
    values = np.array([0.0, 0.96, 1.0])
    rows, parts = coverage.choose(model, pool, values, 1, study, 0.0, 0.15)
    assert rows == [2]
    assert parts["scaled_acquisition"] == [1.0]
    published = published_proximity(pool, study.pending)
    assert published.max() < 2e-3
    assert (stretched(values) - 0.15 * stretched(published)).argmax() == 1


def test_a_batch_keeps_its_distance() -> None:
    study = study_of(2, 12)
    model = fitted(study)
    pool = np.array([[0.5, 0.5], [0.51, 0.5], [0.1, 0.9], [0.9, 0.1]])
    values = np.array([1.0, 0.99, 0.9, 0.0])
    assert coverage.choose(model, pool, values, 2, study, 0.0, 0.0)[0] == [0, 1]
    rows, parts = coverage.choose(model, pool, values, 2, study, 0.0, 0.5)
    assert rows == [0, 2]
    assert parts["proximity"][0] == 0 < parts["proximity"][1]


def test_what_is_under_way_pushes_candidates_away() -> None:
    study = study_of(2, 12, pending=2)
    model = fitted(study)
    pool = np.concatenate([study.pending, 1 - study.pending])
    values = np.array([1.0, 0.9, 0.8, 0.0])
    assert coverage.choose(model, pool, values, 1, study, 0.0, 0.0)[0] == [0]
    assert coverage.choose(model, pool, values, 1, study, 0.0, 1.0)[0][0] in (2, 3)


def test_a_gap_turns_the_choice() -> None:
    study = study_of(3, 16)
    model = fitted(study)
    pool = sobol(3, 32, seed=9)
    known = surrogate.posterior(model, study.X)[0]
    expected = coverage.gap(
        surrogate.posterior(model, pool)[0], known[coverage.non_dominated(known)], REFERENCE
    )
    rows, parts = coverage.choose(model, pool, np.zeros(32), 2, study, 0.25, 0.0)
    assert rows == np.argsort(-expected, kind="stable")[:2].tolist()
    np.testing.assert_allclose(parts["gap"], expected[rows])


def test_gaps_are_those_of_two_objectives() -> None:
    with pytest.raises(BadInput, match="gap_reward: of no use with 3 objectives"):
        coverage.gap(np.zeros((1, 3)), np.zeros((1, 3)), np.full(3, -0.1))


# ----------------------------------------------------------------------------------------------------------- pool


@pytest.mark.parametrize(("q", "size"), [(1, 6), (2, 6), (4, 12)])
def test_the_pool_is_distinct_and_in_order(q: int, size: int) -> None:
    assert coverage.pool_size(q) == size
    study = study_of(3, 10, pending=1)
    model = fitted(study)
    arguments = (model, study.X, study.Y, size, settings(), 1, REFERENCE, study.pending)
    points, values = acquisition.pool(*arguments)
    assert points.shape == (size, 3)
    assert values.shape == (size,)
    assert ((points >= 0) & (points <= 1)).all()
    between = np.abs(points[:, None] - points).max(axis=-1) + np.eye(size)
    assert between.min() > acquisition.APART / 2
    again = acquisition.pool(*arguments)
    np.testing.assert_array_equal(points, again[0])
    with surrogate.seeded(1):
        function = acquisition.build(model, study.X, study.Y, settings(), 1, REFERENCE, study.pending)
        alone = function(surrogate.tensor(points[:, None, :])).detach().numpy()
    np.testing.assert_allclose(values, alone, rtol=1e-4, atol=1e-4)
    # The best of the pool is what the plain path would propose.
    best = acquisition.maximise(model, study.X, study.Y, 1, settings(), 1, REFERENCE, study.pending)[1]
    assert values[0] >= best[0] - 0.1


def test_the_pool_keeps_within_the_box() -> None:
    study = study_of(3, 10)
    bounds = np.array([[0.2, 0.0, 0.5], [0.4, 1.0, 0.6]])
    points, _ = acquisition.pool(fitted(study), study.X, study.Y, 8, settings(), 1, REFERENCE, None, bounds)
    assert ((points >= bounds[0]) & (points <= bounds[1])).all()


def test_draws_have_no_pool() -> None:
    with pytest.raises(BadInput, match="thompson"):
        ask(study_of(), 1, settings(acquisition="thompson", gap_reward=0.25), 0)


# -------------------------------------------------------------------------------------------------------- proposals


@pytest.mark.parametrize(
    "parts",
    [{"gap_reward": 0.25}, {"proximity_penalty": 0.15}, {"gap_reward": 0.25, "proximity_penalty": 0.15}],
)
def test_proposals_are_new_replayable_and_say_why(parts: dict[str, float]) -> None:
    study = study_of(3, 10, pending=2)
    points, info = ask(study, 2, settings(**parts), 1)
    again, same = ask(study, 2, settings(**parts), 1)
    np.testing.assert_array_equal(points, again)
    assert info == same
    assert points.shape == (2, 3)
    together = np.concatenate([study.asked, points])
    assert len(np.unique(together, axis=0)) == len(together)
    assert [len(values) for values in info["coverage"].values()] == [2, 2, 2]
    assert len(info["acquisition_value"]) == 2


def test_without_both_parts_the_path_is_the_plain_one() -> None:
    study = study_of(3, 10, pending=1)
    points, info = ask(study, 2, settings(**OFF), 1)
    model = fitted(study)
    plain, values = acquisition.maximise(model, study.X, study.Y, 2, settings(), 1, REFERENCE, study.pending)
    np.testing.assert_array_equal(points, study.tidy(plain))
    assert info["acquisition_value"] == values.tolist()
    assert "coverage" not in info
