"""From observations to the next batch, and from observations to the front that the surrogate believes in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..pareto import non_dominated, thinned
from ..space import rounded
from . import acquisition, surrogate
from .design import sobol

Tidy = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def ask(
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    variance: NDArray[np.float64],
    q: int,
    settings: Mapping[str, Any],
    seed: int,
    *,
    reference: Sequence[float],
    names: Sequence[str],
    taken: NDArray[np.float64],
    pending: NDArray[np.float64] | None = None,
    tidy: Tidy = rounded,
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """The next q points [q x D], to 6 decimals, and what led to them (JSON-able).

    X: observed points [n x D]; Y: objectives [n x m], maximised, called `names`; variance: known noise of Y;
    reference: fixed reference point [m]; taken: all points ever asked for [t x D], none of which comes again;
    pending: points under way [p x D]; tidy: gives equal points to equal merges. On one machine and one thread, equal
    arguments give equal points.
    """
    corner = np.asarray(reference, dtype=np.float64)
    under_way = np.empty((0, X.shape[1])) if pending is None else pending
    model = surrogate.fit(X, Y, variance, settings)
    found, values = acquisition.maximise(model, X, Y, q, settings, seed, corner, under_way)
    found = tidy(found)
    fresh = _fresh(found, taken)
    batch = found[fresh]
    # Corners come up again and again, since a whole block of one source is often best.
    while len(batch) < q:
        with surrogate.seeded(seed):
            waiting = np.concatenate([under_way, batch])
            function = acquisition.build(model, X, Y, settings, seed, corner, waiting)
            points = tidy(sobol(X.shape[1], settings["raw_samples"], seed))
            point = _best(function, points[_fresh(points, np.concatenate([taken, batch]))])
        batch = np.concatenate([batch, point])
    info = {
        "surrogate": surrogate.describe(model, names),
        "acquisition_value": values.tolist(),
        "replaced": int(q - len(fresh)),
    }
    return batch, info


def posterior_front(
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    variance: NDArray[np.float64],
    stderr: NDArray[np.float64],
    settings: Mapping[str, Any],
    reference: Sequence[float],
    members: int = 8,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Posterior mean and sd [n x m] at the observed points, and which of them make the front by mean.

    The observed front picks whoever was lucky; the posterior mean is nearly free of that. Of the
    non-dominated means, the one that adds least to the hypervolume is dropped until `members` are left.
    Models outside of the search's space (rows of X that are NaN) are no observations of the surrogate: their mean is
    their value, their sd its standard error [n x m]. So it is for all where there are not two to fit.
    """
    mean, sd = Y.copy(), stderr.copy()
    inside = ~np.isnan(X).any(axis=1)
    if inside.sum() > 1:
        model = surrogate.fit(X[inside], Y[inside], variance[inside], settings)
        mean[inside], sd[inside] = surrogate.posterior(model, X[inside])
    front = np.flatnonzero(non_dominated(mean))
    front = front[thinned(mean[front], reference, members)]
    return mean, sd, np.isin(np.arange(len(X)), front)


def _fresh(batch: NDArray[np.float64], taken: NDArray[np.float64]) -> list[int]:
    """Rows of the batch that equal neither a taken point nor an earlier row."""
    seen = {tuple(point) for point in rounded(taken)}
    fresh = []
    for row, point in enumerate(map(tuple, batch)):
        if point not in seen:
            fresh.append(row)
            seen.add(point)
    return fresh


def _best(function: acquisition.Function, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The point [1 x D] with the largest acquisition value."""
    with torch.no_grad():
        values = function(surrogate.tensor(points)[:, None, :])
    return points[[int(values.argmax())]]
