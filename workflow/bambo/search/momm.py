"""MOMM, MM-MO as AP-BMM [Chen2026] compares it: a pool of two origins, the most uncertain of the best taken.

The pool has 3 q points of a greedy qLogNEHVI batch and as many mutants a + F (b - c) of the elites, F uniform in
[.5, .8]: 12 and 12 for a batch of four. The elites are the up to six points of the observed front that add most to its
hypervolume. Of the 3 q points with the largest acquisition value, each alone, the q with the largest posterior variance
(mean over the objectives) are taken. Left out is that AP-BMM's code draws mutants towards the middle of the space.

References:
    [Chen2026] K. Chen et al. AP-BMM: Approximating Capability-Cost Pareto Sets of LLMs via Asynchronous Prior-Guided
        Bayesian Model Merging. arXiv 2512.09972, 2026.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..pareto import exclusive_hypervolume, non_dominated
from . import acquisition, surrogate
from .mm_mo import bounded, mutants
from .sobol import filled
from .study import Points, Study

ELITES = 6
FACTORS = 0.5, 0.8


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q points; see `ask.ask`."""
    random, size = np.random.default_rng(seed), 3 * q
    model = surrogate.fit(study.X, study.Y, study.variance, settings, study.importance, study.weights)
    known = settings, seed, study.reference, study.pending
    found, _ = acquisition.maximise(model, study.X, study.Y, size, *known, study.bounds)
    around = mutants(elites(study), random.uniform(*FACTORS, size), random)
    pool = bounded(np.concatenate([found, around]), study)
    with surrogate.seeded(seed), torch.no_grad():
        function = acquisition.build(model, study.X, study.Y, *known)
        values = function(surrogate.tensor(pool)[:, None, :]).numpy()
    best = np.argsort(-values, kind="stable")[:size]
    _, sd = surrogate.posterior(model, pool[best])
    taken = best[np.argsort(-(sd**2).mean(axis=1), kind="stable")[:q]]
    points, replaced = filled(pool[taken], q, study, seed)
    fitted = surrogate.describe(model, study.names)
    return points, {"surrogate": fitted, "acquisition_value": values[taken].tolist(), "replaced": replaced}


def elites(study: Study) -> Points:
    """Of the observed front those that add most to its hypervolume [k x D]."""
    front = np.flatnonzero(non_dominated(study.Y))
    adds = exclusive_hypervolume(study.Y[front], study.reference)
    return study.X[front[np.argsort(-adds, kind="stable")[:ELITES]]]
