"""Pareto dominance and hypervolume, maximising every objective.

References:
    [While2012] L. While, L. Bradstreet, L. Barone. A Fast Way of Calculating Exact Hypervolumes. IEEE Transactions on
        Evolutionary Computation 16(1), 2012 (three and more objectives).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def non_dominated(Y: ArrayLike) -> NDArray[np.bool_]:
    """Which rows of Y [n x m] no other row dominates (at least as good everywhere, better somewhere).

    Equal rows do not dominate each other: duplicates of a non-dominated row are all kept. ValueError for NaN.
    """
    Y = _objectives(Y)
    # Row by row, so that memory stays O(n m) for any n.
    dominated = [((y <= Y).all(axis=1) & (y < Y).any(axis=1)).any() for y in Y]
    return ~np.array(dominated, dtype=bool)


def hypervolume(Y: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the rows of Y [n x m] dominate above the reference point [m] (Eq. 18 of the paper); exact.

    A row that is not better than the reference in every objective adds nothing; no rows at all have volume 0.
    ValueError for NaN, or where the lengths of rows and reference differ.
    """
    reference = np.asarray(reference, dtype=np.float64)
    Y = _objectives(Y, len(reference))
    if Y.shape[1] != len(reference) or np.isnan(reference).any():
        raise ValueError(f"reference {reference} does not fit {Y.shape[1]} objectives")
    Y = Y[(reference < Y).all(axis=1)]
    return _volume(Y[non_dominated(Y)], reference)


def exclusive_hypervolume(Y: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """What each row of Y [n x m] adds to the hypervolume of the others: [n]."""
    reference = np.asarray(reference, dtype=np.float64)
    Y = _objectives(Y, len(reference))
    return np.array([added_hypervolume(y, np.delete(Y, i, axis=0), reference) for i, y in enumerate(Y)])


def added_hypervolume(y: ArrayLike, Y: ArrayLike, reference: ArrayLike) -> float:
    """What y [m] adds to the hypervolume of Y [n x m].

    That is the box of y without what Y covers of it: without the hypervolume of min(y, Y).
    """
    y, reference = np.asarray(y, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if not (reference < y).all():
        return 0.0
    box = float(np.prod(y - reference))
    return box - hypervolume(np.minimum(y, _objectives(Y, len(reference))), reference)


def thinned(Y: ArrayLike, reference: ArrayLike, members: int) -> NDArray[np.int64]:
    """Rows of Y [n x m] that are left when the one that adds least to the hypervolume is dropped again and again."""
    Y = _objectives(Y)
    rows = np.arange(len(Y))
    adds = exclusive_hypervolume(Y, reference) if len(rows) > members else np.empty(0)
    while len(rows) > members:
        # What a row adds only grows as others go, so that old values are lower bounds: only the smallest is made anew.
        renewed = set[int]()
        while (place := int(adds.argmin())) not in renewed:
            adds[place] = added_hypervolume(Y[rows[place]], np.delete(Y[rows], place, axis=0), reference)
            renewed.add(place)
        rows, adds = np.delete(rows, place), np.delete(adds, place)
    return rows


def _objectives(Y: ArrayLike, m: int = 0) -> NDArray[np.float64]:
    Y = np.asarray(Y, dtype=np.float64)
    Y = Y.reshape(0, m) if Y.size == 0 else Y
    if Y.ndim != 2 or np.isnan(Y).any():
        raise ValueError(f"objectives must be an n x m array without NaN, not one of shape {Y.shape}")
    return Y


def _volume(front: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Hypervolume of a front [n x m] above the reference point."""
    if len(reference) == 2:
        return _area(front, reference)
    # From the worst in the last objective on: those to come cover each point's box as deep as it is, so that what a
    # point adds to them is its depth times what it adds in the other objectives [While2012].
    front = front[front[:, -1].argsort(kind="stable")]
    depths = front[:, -1] - reference[-1]
    flat, corner = front[:, :-1], reference[:-1]
    return float(
        sum(
            depth * added_hypervolume(y, flat[i + 1 :], corner)
            for i, (depth, y) in enumerate(zip(depths, flat, strict=True))
        )
    )


def _area(front: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Sum of the steps under a front of two objectives, walked from the best first objective down."""
    front = np.unique(front, axis=0)[::-1]
    floors = np.concatenate([reference[1:], front[:-1, 1]])
    return float(((front[:, 0] - reference[0]) * (front[:, 1] - floors)).sum())
