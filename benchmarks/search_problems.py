"""Problems of the search benchmark: simulated landscapes of merged models, and test functions of pymoo's.

DTLZ2 and ZDT1 to ZDT3 [Deb2005, Zitzler2000] are turned to maximisation, y = 1 - (f - ideal) / unit, so that their
best values are 1 as those of merges are about; noise-free and without importance. The unit is the front's own extent,
but where random points are worse, in the median, than the reference point would then be, that is put there: above the
usual one none of the searches that were tried found anything in 38 variables with 48 evaluations. Optima lie at 0 or
at .5 in every variable but the first, where initial designs have points: each seed moves them to a random o in
[.1, .9]^(D-1).

References:
    [Deb2005] K. Deb, L. Thiele, M. Laumanns, E. Zitzler. Scalable Test Problems for Evolutionary Multiobjective
        Optimization. Evolutionary Multiobjective Optimization, 2005.
    [Zitzler2000] E. Zitzler, K. Deb, L. Thiele. Comparison of Multiobjective Evolutionary Algorithms: Empirical
        Results. Evolutionary Computation 8(2), 2000.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from bambo.pareto import hypervolume
from landscape import REFERENCE, Array, Landscape, Observation, Problem, blockwise, layerwise
from scipy.optimize import minimize

LANDSCAPE = "landscape"
FUNCTIONS = ("dtlz2", "zdt1", "zdt2", "zdt3")
LAYERWISE = 38
DIRECTIONS, BETWEEN = 96, 8
STEP = 1e-5
POINTS = 65_536  # by which the median of a test function is estimated
SECONDS, SPREAD = 1800.0, 0.5  # of an evaluation of a test function, simulated: log-normal


class Simulated(Protocol):
    """What the benchmark asks of a problem; points [n x D] in [0, 1], objectives are maximised."""

    @property
    def dimension(self) -> int: ...

    @property
    def importance(self) -> Array | None: ...

    @property
    def ends(self) -> Array:
        """True objectives of what every search knows without looking: [e x m]."""

    def true(self, X: Array) -> Array: ...

    def observe(self, X: Array) -> Observation: ...


class TestFunction:
    """A noise-free test function of two objectives, its optimum moved by the seed."""

    importance = None
    ends = np.empty((0, 2))

    def __init__(self, name: str, dimension: int, seed: int) -> None:
        self.name, self.dimension = name, dimension
        self._generator = np.random.default_rng([2, seed])
        self._optimum = self._generator.uniform(0.1, 0.9, dimension - 1)
        front = _front(name)
        self._ideal = front.min(axis=0)
        extent, typical = front.max(axis=0) - self._ideal, _median(name, dimension) - self._ideal
        self._unit = np.maximum(extent, typical / (1 - np.array(REFERENCE)))

    def true(self, X: Array) -> Array:
        offset = (X[:, 1:] - self._optimum) / np.maximum(self._optimum, 1 - self._optimum)  # in [-1, 1]
        moved = 0.5 + offset / 2 if self.name == "dtlz2" else np.abs(offset)
        raw = _function(self.name, self.dimension).evaluate(np.column_stack([X[:, 0], moved]))
        return self._normalised(raw)

    def observe(self, X: Array) -> Observation:
        Y = self.true(X)
        seconds = SECONDS * self._generator.lognormal(-(SPREAD**2) / 2, SPREAD, len(X))
        return Observation(Y, np.zeros_like(Y), seconds, np.zeros(len(X)))

    def best(self) -> float:
        return hypervolume(self._normalised(_front(self.name)), REFERENCE)

    def _normalised(self, raw: Array) -> Array:
        return np.asarray(1 - (raw - self._ideal) / self._unit)


class Merges(Problem):
    """A landscape whose end points every search knows, since they set the scale."""

    ends = np.array([[0.0, 1.0], [1.0, 0.0]])

    def best(self) -> float:
        """Hypervolume of the best front known: optima in many directions, from several starts each.

        A point is found for each a in (0, 1), that of the largest (f1 - r1)^a (f2 - r2)^(1 - a), whose level sets
        reach into fronts that are not convex, by L-BFGS-B on finite differences.
        """
        starts = [np.full(self.dimension, value) for value in (0.1, 0.3, 0.5, 0.8)]
        found: list[Array] = []
        for a in np.linspace(0.01, 0.99, DIRECTIONS):
            ends = [self._optimum(a, start) for start in [*starts, *found[-1:]]]
            found.append(min(ends, key=lambda x, a=a: self._loss(a, x[None])[0]))  # type: ignore[misc]
        # What lies between neighbours in x is next to optimal, and fills the gaps between them.
        steps = np.linspace(0, 1, BETWEEN, endpoint=False)[:, None]
        filled = [x + steps * (y - x) for x, y in pairwise(found)]
        return hypervolume(np.vstack([self.true(np.vstack([*filled, found[-1]])), self.ends]), REFERENCE)

    def _optimum(self, a: float, start: Array) -> Array:
        def loss(x: Array) -> tuple[float, Array]:
            values = self._loss(a, np.vstack([x, x + STEP * np.eye(len(x))]))
            return float(values[0]), (values[1:] - values[0]) / STEP

        bounds = [(0.0, 1.0)] * len(start)
        return np.asarray(
            minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 100}).x
        )

    def _loss(self, a: float, X: Array) -> Array:
        gains = np.log(np.maximum(self.true(X) - REFERENCE, 1e-6))
        return np.asarray(-(a * gains[:, 0] + (1 - a) * gains[:, 1]))


def problem(
    name: str, dimension: int, seed: int, noise: float = 0.25, strategy: str = "hybrid"
) -> Merges | TestFunction:
    """The problem of a seed. Landscapes of fewer than 38 variables share them among blocks cut by the strategy."""
    if name in FUNCTIONS:
        return TestFunction(name, dimension, seed)
    landscape = Landscape(seed, noise)
    cut = layerwise(landscape) if dimension == LAYERWISE else blockwise(landscape, dimension - 2, strategy)
    return Merges(landscape, cut.parts)


@lru_cache
def _function(name: str, dimension: int) -> Any:
    from pymoo.problems import get_problem

    return get_problem(name, n_var=dimension, **({"n_obj": 2} if name == "dtlz2" else {}))


@lru_cache
def _median(name: str, dimension: int) -> Array:
    """Of each objective [2], minimised, over points drawn uniformly."""
    points = np.random.default_rng(0).random((POINTS, dimension))
    return np.asarray(np.median(_function(name, dimension).evaluate(points), axis=0))


@lru_cache
def _front(name: str) -> Array:
    """Points of the true front [1000 x 2], minimised, which does not depend on the number of variables."""
    if name == "dtlz2":
        angle = np.linspace(0, np.pi / 2, 1000)
        return np.column_stack([np.cos(angle), np.sin(angle)])
    count = "n_points" if name == "zdt3" else "n_pareto_points"
    return np.asarray(_function(name, 8).pareto_front(**{count: 1000}))
