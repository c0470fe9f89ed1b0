"""The first points of a search (section 3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..objectives import Evaluation
from ..space import alone, everywhere, rounded, spread, tidied
from .study import fresh

Variables = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Start:
    """What a search takes over from a coarser one, in its own space.

    ids, X [n x D], values: candidates that are the same models in both, and their objectives; front: points of the
    coarser front [k x D], best first; bounds: of a box around it [2 x D], or None for the whole space.
    """

    ids: Sequence[str]
    X: NDArray[np.float64]
    values: Evaluation
    front: NDArray[np.float64]
    bounds: NDArray[np.float64] | None


def initial(
    settings: Mapping[str, Any],
    variables: Variables,
    sources: Sequence[str],
    n: int,
    start: Start | None = None,
) -> tuple[NDArray[np.float64], list[str]]:
    """First n points [n x D] of a search with these settings, and their origins.

    Of a grid there are no more than its weights. A longer design begins with the shorter one. start: what the search
    takes over from a coarser one, see `warm_start`.
    """
    if settings["initial"] == "grid":
        points = grid(settings["weights"], variables)[:n]
        return points, ["grid"] * len(points)
    if start is None:
        return warm_start(variables, sources, n, settings["seed"])
    # Half, and of an odd number the smaller one: these points lie where the coarser search was, so that only random
    # ones tell the finer variables apart.
    known = (settings["n_initial"] - len(sources) - 1) // 2
    return warm_start(variables, sources, n, settings["seed"], start.front, known, start.bounds)


def warm_start(
    variables: Variables,
    sources: Sequence[str],
    n: int,
    seed: int,
    front: NDArray[np.float64] | None = None,
    known: int = 0,
    bounds: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], list[str]]:
    """First n points [n x D] and their origins: each source (the last one first), the balance, then scrambled Sobol.

    Weights of the Sobol points are uniform on the simplex, or, with bounds [2 x D], within these on the cube. Before
    them come up to `known` points of `front` [k x D], origin "start", those that are none of the first ones.
    """
    count = len(sources)
    order = [count - 1, *range(count - 1)]
    weights = [*(alone(place, count) for place in order), [1 / count] * count]
    names = ["all-0", "all-1"] if count == 2 else [f"all-{sources[place]}" for place in order]
    names.append("balanced")
    fixed = tidied(np.array([everywhere(own, variables) for own in weights]), variables)
    if front is not None:
        taken = front[fresh(front, fixed)][:known]
        fixed, names = np.concatenate([fixed, taken]), names + ["start"] * len(taken)
    random = sobol(len(variables), max(n - len(fixed), 0), seed)
    random = spread(random, variables) if bounds is None else within(random, bounds)
    return tidied(np.concatenate([fixed, random])[:n], variables), (names + ["sobol"] * n)[:n]


def within(U: NDArray[np.float64], bounds: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Points of the unit cube [n x D], moved into the box between `bounds` [2 x D], if there is one."""
    return U if bounds is None else bounds[0] + U * (bounds[1] - bounds[0])


def grid(weights: Sequence[float] | Sequence[Sequence[float]], variables: Variables) -> NDArray[np.float64]:
    """One point [1 x D] a weight of the first source, or a list of the weights of all: [n x D]."""
    rows = [own if isinstance(own, Sequence) else [own, 1 - own] for own in weights]
    return tidied(np.array([everywhere(own, variables) for own in rows]), variables)


def sobol(dimension: int, n: int, seed: int) -> NDArray[np.float64]:
    """n scrambled Sobol points [n x dimension]."""
    # Here, not above: half a CPU second, which most proposals can do without.
    from scipy.stats import qmc

    # Drawn as a power of two, as their balance asks for, then cut.
    power = ceil(log2(max(n, 1)))
    return rounded(qmc.Sobol(dimension, rng=seed).random_base2(power)[:n])
