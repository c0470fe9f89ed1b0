"""Bayesian optimisation: from observations to the next batch, by a surrogate and an acquisition function."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import acquisition, coverage, surrogate
from .design import sobol, within
from .study import Points, Study, fresh


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q points, which the surrogate's posterior makes worth most; see `ask.ask`."""
    model = surrogate.fit(study.X, study.Y, study.variance, settings, study.importance, study.weights)
    corner = study.reference
    covering = settings["gap_reward"] > 0 or settings["proximity_penalty"] > 0
    size = coverage.pool_size(q) if covering else q
    propose = acquisition.pool if covering else acquisition.maximise
    found, values = propose(
        model, study.X, study.Y, size, settings, seed, corner, study.pending, study.bounds
    )
    found = study.tidy(found)
    kept = fresh(found, study.asked)
    info: dict[str, Any] = {}
    if covering and kept:
        rows, info["coverage"] = coverage.choose(
            model, found[kept], values[kept], q, study, settings["gap_reward"], settings["proximity_penalty"]
        )
        kept = [kept[row] for row in rows]
        values = values[kept]
    batch = found[kept]
    # Corners come up again and again, since a whole block of one source is often best.
    while len(batch) < q:
        with surrogate.seeded(seed):
            waiting = np.concatenate([study.pending, batch])
            function = acquisition.build(model, study.X, study.Y, settings, seed, corner, waiting)
            points = study.tidy(within(sobol(study.dimension, settings["raw_samples"], seed), study.bounds))
            point = _best(function, points[fresh(points, np.concatenate([study.asked, batch]))])
        batch = np.concatenate([batch, point])
    info |= {
        "surrogate": surrogate.describe(model, study.names),
        "acquisition_value": values.tolist(),
        "replaced": int(q - len(kept)),
    }
    return batch, info


def _best(function: acquisition.Function, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The point [1 x D] with the largest acquisition value."""
    with torch.no_grad():
        values = function(surrogate.tensor(points)[:, None, :])
    return points[[int(values.argmax())]]
