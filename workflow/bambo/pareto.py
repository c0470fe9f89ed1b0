"""Pareto dominance and hypervolume, maximising every objective.

References:
    [Fonseca2006] C. M. Fonseca, L. Paquete, M. Lopez-Ibanez. An improved dimension-sweep algorithm for the
        hypervolume indicator. IEEE CEC 2006 (three and more objectives, through BoTorch).
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
    Y = Y[non_dominated(Y)]
    return _area(Y, reference) if len(reference) == 2 else _volume(Y, reference)


def exclusive_hypervolume(Y: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """What each row of Y [n x m] adds to the hypervolume of the others: [n]."""
    Y = _objectives(Y)
    total = hypervolume(Y, reference)
    return np.array([total - hypervolume(np.delete(Y, i, axis=0), reference) for i in range(len(Y))])


def _objectives(Y: ArrayLike, m: int = 0) -> NDArray[np.float64]:
    Y = np.asarray(Y, dtype=np.float64)
    Y = Y.reshape(0, m) if Y.size == 0 else Y
    if Y.ndim != 2 or np.isnan(Y).any():
        raise ValueError(f"objectives must be an n x m array without NaN, not one of shape {Y.shape}")
    return Y


def _area(front: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Sum of the steps under a front of two objectives, walked from the best first objective down."""
    front = np.unique(front, axis=0)[::-1]
    floors = np.concatenate([reference[1:], front[:-1, 1]])
    return float(((front[:, 0] - reference[0]) * (front[:, 1] - floors)).sum())


def _volume(front: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    # Here, not above: torch and BoTorch take seconds to import, and tables of two objectives need neither.
    import torch
    from botorch.utils.multi_objective.hypervolume import Hypervolume

    return float(Hypervolume(torch.from_numpy(reference)).compute(torch.from_numpy(front)))
