"""MM-MO [Li2025]: candidates by expected hypervolume improvement, crossed with what is good, the most uncertain taken.

1. A greedy batch of 2 q candidates maximises the acquisition, the front of the posterior means taken as known.
2. "Weak to strong": each candidate takes half of its variables, at random, from a mutant a + (b - c) / 2 of three of
   the five observations with the largest sum of objectives, as in differential evolution.
3. "Fisher information": of these, the q with the smallest sum over the objectives of 1 / posterior variance are taken.

So described in the paper and done in its code (github.com/aaron-di/MM-MO, commit 46e318a). The paper's third objective,
sparsity, is the setting of that name: a column of the observations that this search alone has (`decision.decide`).

References:
    [Li2025] B. Li et al. It's Morphing Time: Unleashing the Potential of Multiple LLMs via Multi-Objective
        Optimization. IEEE Transactions on Evolutionary Computation, 2025.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import acquisition, surrogate
from .sobol import filled
from .study import Points, Study, fresh

ELITES = 5
FACTOR = 0.5  # of the difference of two elites
CROSSOVER = 0.5  # probability of a variable to be the mutant's


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q points; see `ask.ask`."""
    random = np.random.default_rng(seed)
    model = surrogate.fit(study.X, study.Y, study.variance, settings, study.importance, study.weights)
    found = np.empty((0, study.dimension))
    # One at a time, since the cost of a batch whose front is known doubles with each of its points.
    for _ in range(2 * q):
        waiting = np.concatenate([study.pending, found])
        known = settings, seed, study.reference, waiting, study.bounds
        point, _ = acquisition.maximise(model, study.X, study.Y, 1, *known)
        found = np.concatenate([found, point])
    elites = study.X[np.argsort(-study.Y.sum(axis=1), kind="stable")[:ELITES]]
    factors = np.full(len(found), FACTOR)
    pool = bounded(crossed(found, mutants(elites, factors, random), random), study)
    points, replaced = filled(pool[most_uncertain(model, pool, q)], q, study, seed)
    fitted = surrogate.describe(model, study.names)
    return points, {"surrogate": fitted, "acquisition_value": None, "replaced": replaced}


def bounded(points: Points, study: Study) -> Points:
    """Those of the points [n x D] that are new, tidy and moved into the bounds."""
    found = study.tidy(points if study.bounds is None else np.clip(points, *study.bounds))
    return found[fresh(found, study.asked)]


def mutants(elites: Points, factors: NDArray[np.float64], random: np.random.Generator) -> Points:
    """a + factor (b - c) for each of the factors [n], with three of the elites [k x D], within [0, 1]: [n x D]."""
    few = len(elites) < 3
    trios = [elites[random.choice(len(elites), 3, replace=few)] for _ in factors]
    found = [a + factor * (b - c) for (a, b, c), factor in zip(trios, factors, strict=True)]
    return np.clip(np.array(found), 0, 1)


def crossed(points: Points, others: Points, random: np.random.Generator) -> Points:
    """Points [n x D] with some of their variables, one at least, from the other points [n x D]."""
    theirs = random.random(points.shape) < CROSSOVER
    one = random.integers(points.shape[1], size=len(points))
    none = ~theirs.any(axis=1)
    theirs[none, one[none]] = True
    return np.where(theirs, others, points)


def most_uncertain(model: Any, points: Points, q: int) -> NDArray[np.int64]:
    """Rows of the q points [n x D] with the smallest Fisher information: 1 / variance, summed over the objectives."""
    if len(points) == 0:
        return np.empty(0, dtype=np.int64)
    _, sd = surrogate.posterior(model, points)
    information = (1 / np.maximum(sd, 1e-9) ** 2).sum(axis=1)
    return np.argsort(information, kind="stable")[:q]
