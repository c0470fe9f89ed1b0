"""Dominance and hypervolume against closed forms and naive versions."""

import numpy as np
import pytest
import torch
from bambo.pareto import added_hypervolume, exclusive_hypervolume, hypervolume, non_dominated, thinned
from botorch.utils.multi_objective.hypervolume import Hypervolume
from botorch.utils.multi_objective.pareto import is_non_dominated
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

# Few distinct values, so that ties and duplicates are common.
COARSE = st.integers(-2, 5).map(float)


def points(m: int, most: int = 12) -> st.SearchStrategy[np.ndarray]:
    return st.integers(0, most).flatmap(lambda n: arrays(np.float64, (n, m), elements=COARSE))


def any_points() -> st.SearchStrategy[np.ndarray]:
    return st.integers(1, 4).flatmap(points)


@given(any_points())
def test_non_dominated_is_the_naive_definition(Y: np.ndarray) -> None:
    naive = []
    for y in Y:
        dominated = False
        for other in Y:
            as_good = all(other[k] >= y[k] for k in range(len(y)))
            better = any(other[k] > y[k] for k in range(len(y)))
            dominated = dominated or (as_good and better)
        naive.append(not dominated)
    assert non_dominated(Y).tolist() == naive
    assert non_dominated(Y).tolist() == is_non_dominated(torch.from_numpy(Y), deduplicate=False).tolist()


def test_duplicates_of_a_non_dominated_point_are_kept() -> None:
    assert non_dominated([[1, 0], [1, 0], [0, 1], [0, 0]]).tolist() == [True, True, True, False]


def test_hypervolume_of_rectangles() -> None:
    assert hypervolume([[2, 3]], [0, 0]) == 6
    assert hypervolume([[2, 3]], [-1, 1]) == 6
    assert hypervolume([[3, 1], [2, 2], [1, 3]], [0, 0]) == 3 + 2 + 1
    assert hypervolume([[1, 1, 1], [2, 1, 1]], [0, 0, 0]) == 2
    assert hypervolume([[2, 1, 1], [1, 2, 1], [1, 1, 2]], [0, 0, 0]) == pytest.approx(4)


def test_points_not_better_than_the_reference_add_nothing() -> None:
    assert hypervolume([[0.5, 0.5]], [1, 0]) == 0
    assert hypervolume([[0, 5], [5, 0], [1, 1]], [0, 0]) == 1
    assert hypervolume(np.empty((0, 2)), [0, 0]) == 0
    assert hypervolume([], [0, 0, 0]) == 0


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([2, 3]).flatmap(points))
def test_hypervolume_counts_unit_cells(Y: np.ndarray) -> None:
    m = Y.shape[1]
    cells = np.stack(np.meshgrid(*[np.arange(6)] * m), axis=-1).reshape(-1, m)
    covered = sum(bool((cell + 1 <= Y).all(axis=1).any()) for cell in cells)
    assert hypervolume(Y, np.zeros(m)) == pytest.approx(covered)


@settings(max_examples=50, deadline=None)
@given(points(2), st.permutations(range(12)))
def test_hypervolume_ignores_order_and_grows_with_points(Y: np.ndarray, order: list[int]) -> None:
    shuffled = Y[[i for i in order if i < len(Y)]]
    assert hypervolume(shuffled, [-1, -1]) == hypervolume(Y, [-1, -1])
    parts = [hypervolume(Y[:i], [-1, -1]) for i in range(len(Y) + 1)]
    assert parts == sorted(parts)


def test_exclusive_hypervolume_is_what_would_be_lost() -> None:
    assert exclusive_hypervolume([[3, 1], [2, 2], [1, 3], [1, 1]], [0, 0]).tolist() == [1, 1, 1, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5).flatmap(points))
def test_hypervolume_of_more_objectives_is_botorch_s(Y: np.ndarray) -> None:
    reference = torch.full((Y.shape[1],), -1.0, dtype=torch.float64)
    theirs = Hypervolume(reference).compute(torch.from_numpy(Y[non_dominated(Y)])) if len(Y) else 0.0
    assert hypervolume(Y, reference.numpy()) == pytest.approx(theirs)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 4).flatmap(points), st.data())
def test_added_hypervolume_is_the_difference_it_makes(Y: np.ndarray, data: st.DataObject) -> None:
    y = data.draw(arrays(np.float64, Y.shape[1], elements=COARSE))
    reference = np.zeros(Y.shape[1])
    difference = hypervolume(np.vstack([Y, y]), reference) - hypervolume(Y, reference)
    assert added_hypervolume(y, Y, reference) == pytest.approx(difference)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 4).flatmap(lambda m: arrays(np.float64, (9, m), elements=st.floats(0.1, 1))))
def test_thinning_drops_the_least_until_so_many_are_left(Y: np.ndarray) -> None:
    reference = np.zeros(Y.shape[1])
    kept = Y[thinned(Y, reference, 4)]
    rest = Y
    while len(rest) > 4:
        rest = np.delete(rest, exclusive_hypervolume(rest, reference).argmin(), axis=0)
    assert len(kept) == 4
    # Of equals, rounding decides which one goes.
    assert hypervolume(kept, reference) == pytest.approx(hypervolume(rest, reference))
    assert thinned(Y, reference, 9).tolist() == list(range(9))


@pytest.mark.parametrize("bad", [[[np.nan, 1.0]], [1.0, 2.0]])
def test_nan_and_wrong_shapes_are_refused(bad: list) -> None:
    with pytest.raises(ValueError, match="without NaN"):
        non_dominated(bad)
    with pytest.raises(ValueError, match="without NaN"):
        hypervolume(bad, [0, 0])
    with pytest.raises(ValueError, match="does not fit"):
        hypervolume([[1.0, 2.0, 3.0]], [0, 0])
    with pytest.raises(ValueError, match="does not fit"):
        hypervolume([[1.0, 2.0]], [0, np.nan])
