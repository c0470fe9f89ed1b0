"""MOTPE [Ozaki2020], of Optuna: tree-structured Parzen estimators of good and other points, each variable apart.

Good points are those of the best non-dominated ranks, the last one cut by hypervolume. Optuna's study is rebuilt from
the observations at every question; points under way are running trials, which its constant liar counts among the
others. The sampler's own random start is off, since the search has an initial design. It knows nothing of noise.

References:
    [Ozaki2020] Y. Ozaki, Y. Tanigaki, S. Watanabe, M. Onishi. Multiobjective Tree-Structured Parzen Estimator for
        Computationally Expensive Optimization Problems. GECCO 2020.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState, create_trial

from .sobol import filled
from .study import Points, Study, fresh

TRIES = 20  # for each point, until one is new


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q points, each a running trial to those after it; see `ask.ask`."""
    trials, names = rebuilt(study, seed), _distributions(study)
    found = np.empty((0, study.dimension))
    for _ in range(q * TRIES):
        trial = trials.ask(names)
        point = study.tidy(np.array([[trial.params[name] for name in names]]))
        if fresh(point, np.concatenate([study.asked, found])):
            found = np.concatenate([found, point])
        else:
            trials.tell(trial, state=TrialState.FAIL)
        if len(found) == q:
            break
    points, replaced = filled(found, q, study, seed)
    return points, {"surrogate": None, "acquisition_value": None, "replaced": replaced}


def rebuilt(study: Study, seed: int) -> optuna.Study:
    """A study in memory of all that was observed and is under way."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(n_startup_trials=0, constant_liar=True, seed=seed)
    trials = optuna.create_study(directions=["maximize"] * study.Y.shape[1], sampler=sampler)
    names = _distributions(study)
    for point, values in zip(study.X.tolist(), study.Y.tolist(), strict=True):
        params = dict(zip(names, point, strict=True))
        trials.add_trial(create_trial(params=params, distributions=names, values=values))
    for point in study.pending.tolist():
        params = dict(zip(names, point, strict=True))
        trials.add_trial(create_trial(params=params, distributions=names, state=TrialState.RUNNING))
    return trials


def _distributions(study: Study) -> dict[str, Any]:
    return {f"x{column}": FloatDistribution(0.0, 1.0) for column in range(study.dimension)}
