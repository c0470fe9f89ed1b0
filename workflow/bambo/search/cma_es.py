"""CMA-ES, as Akiba et al. [Akiba2025] search merges, with the library cma; for several objectives.

CMA-ES ranks a generation by one number. Here that is what a point adds to the hypervolume of all that was observed up
to the end of its generation, and for a point that adds nothing minus the step that it lacks: the smallest that, added
to each of its objectives, makes it add something (the uncrowded hypervolume improvement of [Toure2019], with that step
for the Euclidean distance to the front). So the distribution moves to wherever the front can still grow, instead of to
one compromise.

The state is rebuilt by telling the library the observations in the order in which they were asked for, a generation of
4 + 3 ln D at a time, the initial design being the first; a generation that is not complete waits. Points are drawn from
the distribution that comes of it, any number at a time. Mean and step size start at the middle and at 0.3.

References:
    [Akiba2025] T. Akiba, M. Shing, Y. Tang, Q. Sun, D. Ha. Evolutionary Optimization of Model Merging Recipes. Nature
        Machine Intelligence 7, 2025.
    [Toure2019] C. Touré, N. Hansen, A. Auger, D. Brockhoff. Uncrowded Hypervolume Improvement: COMO-CMA-ES and the
        Sofomore Framework. GECCO 2019.
"""

import warnings
from collections.abc import Mapping
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pareto import added_hypervolume
from .sobol import filled
from .study import Points, Study, fresh

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of optional parts of the library
    import cma

STEP = 0.3
ROUNDS = 20  # of drawing, until there are enough points that are new


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q points, drawn from the distribution that the observations lead to; see `ask.ask`."""
    strategy = replayed(study, seed)
    found = np.empty((0, study.dimension))
    for _ in range(ROUNDS):
        drawn = np.array(strategy.ask(q))[:, : study.dimension]
        found = np.concatenate([found, study.tidy(drawn)])
        if len(fresh(found, study.asked)) >= q:
            break
    points, replaced = filled(found, q, study, seed)
    return points, {"surrogate": None, "acquisition_value": None, "replaced": replaced}


def replayed(study: Study, seed: int) -> Any:
    """The library's strategy after all complete generations of the observations; draws follow the seed."""
    random = np.random.default_rng(seed)
    X = study.X
    if study.dimension == 1:  # which the library does not know: a second variable without effect
        X = np.column_stack([X, np.full(len(X), 0.5)])
    options = {
        "bounds": [0, 1],
        "verbose": -9,
        "seed": nan,
        "randn": lambda *shape: random.standard_normal(shape),
    }
    strategy = cma.CMAEvolutionStrategy(np.full(X.shape[1], 0.5), STEP, options)
    size = strategy.popsize
    for start in range(0, len(X) - size + 1, size):
        end = start + size
        fitness = fitnesses(study.Y[start:end], study.Y[:start], study.reference)
        strategy.feed_for_resume(list(X[start:end]), list(-fitness))
    return strategy


def fitnesses(
    own: NDArray[np.float64], before: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What is maximised, of each of a generation's own objectives [n x m] after those before it [k x m]: [n]."""
    found = []
    for place, y in enumerate(own):
        others = np.concatenate([before, np.delete(own, place, axis=0)])
        added = added_hypervolume(y, others, reference)
        step = max((reference - y).max(), (others - y).min(axis=1).max(initial=0.0))
        found.append(added if added > 0 else -step)
    return np.array(found)
