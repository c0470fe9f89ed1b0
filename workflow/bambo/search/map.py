"""MAP [Li2024]: a quadratic function of the weights for each objective, and NSGA-II on these.

The paper evaluates random merges, fits once and returns the front of the fit. Here each batch is fitted anew to all
observations, and is taken from the front of the fit so that it is far, in the fit's objectives, from all that was asked
for: with one batch, and the observations that random merges give, it is the paper's.

The quadratic has all cross terms where there are more observations than coefficients, 1 + 2 D + D (D - 1) / 2, and else
squares alone. It is fitted by ridge regression, whose strength is the one with the smallest leave-one-out error.

References:
    [Li2024] L. Li et al. MAP: Low-compute Model Merging with Amortized Pareto Fronts via Quadratic Approximation.
        ICLR 2025 (arXiv 2406.07529).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.optimize import minimize

from .sobol import filled
from .study import Points, Study, fresh

RIDGES = np.logspace(-6, 3, 28)
POPULATION, GENERATIONS = 64, 60

Quadratic = Callable[[Points], NDArray[np.float64]]


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q points, spread over the front of the fit; see `ask.ask`."""
    function = fitted(study.X, study.Y)
    found = study.tidy(front(function, study, seed))
    found = found[fresh(found, study.asked)]
    points, replaced = filled(found[spread(function(found), function(study.asked), q)], q, study, seed)
    return points, {"surrogate": None, "acquisition_value": None, "replaced": replaced}


def fitted(X: Points, Y: NDArray[np.float64]) -> Quadratic:
    """A quadratic function of X [n x D] for each objective of Y [n x m], by ridge regression."""
    dimension = X.shape[1]
    crossed = len(X) > 1 + 2 * dimension + dimension * (dimension - 1) // 2
    terms = _terms(X, crossed)
    centre, scale = terms.mean(axis=0), terms.std(axis=0)
    scale[scale == 0] = 1.0
    U, s, V = np.linalg.svd((terms - centre) / scale, full_matrices=False)
    mean = Y.mean(axis=0)
    columns = [_ridge(U, s, y) for y in (Y - mean).T]
    coefficients = V.T @ np.column_stack(columns)
    return lambda points: (_terms(points, crossed) - centre) / scale @ coefficients + mean


def _ridge(U: NDArray[np.float64], s: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients along the singular directions, of the strength with the smallest leave-one-out error."""
    best = RIDGES[int(np.argmin(errors(U, s, y)))] * len(y)
    return s / (s**2 + best) * (U.T @ y)


def errors(U: NDArray[np.float64], s: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each strength the sum of squared errors of fits without each observation in turn, in closed form.

    U, s: of the singular value decomposition of the centred terms; y: centred objective [n].
    """
    found = []
    for ridge in RIDGES * len(y):
        shrunk = s**2 / (s**2 + ridge)
        leverage = 1 / len(y) + (U**2 * shrunk).sum(axis=1)  # the mean is fitted, too
        residuals = (y - U @ (shrunk * (U.T @ y))) / np.maximum(1 - leverage, 1e-9)
        found.append((residuals**2).sum())
    return np.array(found)


def _terms(X: Points, crossed: bool) -> NDArray[np.float64]:
    """Linear terms and squares, of what is left of the middle; products of two variables if `crossed`."""
    z = X - 0.5
    first, second = np.triu_indices(X.shape[1], k=1)
    products = [z[:, first] * z[:, second]] if crossed else []
    return np.concatenate([z, z**2, *products], axis=1)


def front(function: Quadratic, study: Study, seed: int) -> Points:
    """The points [n x D] of the function's Pareto front that NSGA-II finds."""

    class Fit(Problem):
        def _evaluate(self, x: Points, out: dict[str, Any], *_: Any, **__: Any) -> None:
            out["F"] = -function(x)

    problem = Fit(n_var=study.dimension, n_obj=study.Y.shape[1], xl=0.0, xu=1.0)
    result = minimize(problem, NSGA2(pop_size=POPULATION), ("n_gen", GENERATIONS), seed=seed)
    return np.atleast_2d(result.X)


def spread(values: NDArray[np.float64], others: NDArray[np.float64], q: int) -> list[int]:
    """Up to q rows of values [n x m], each the farthest from the others [t x m] and from those before it.

    Distances are in units of the values' range.
    """
    if len(values) == 0:
        return []
    unit = np.ptp(values, axis=0)
    unit[unit == 0] = 1.0
    nearest = np.linalg.norm((values[:, None] - others[None]) / unit, axis=2).min(axis=1)
    chosen: list[int] = []
    while len(chosen) < min(q, len(values)):
        row = int(nearest.argmax())
        chosen.append(row)
        nearest = np.minimum(nearest, np.linalg.norm((values - values[row]) / unit, axis=1))
        nearest[chosen] = -1.0
    return chosen
