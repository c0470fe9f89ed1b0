"""The first points of a search (section 3.3)."""

from collections.abc import Mapping, Sequence
from math import ceil, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from ..space import alone, everywhere, rounded, spread, tidied

Variables = Sequence[Mapping[str, Any]]


def initial(
    settings: Mapping[str, Any], variables: Variables, sources: Sequence[str], n: int
) -> tuple[NDArray[np.float64], list[str]]:
    """First n points [n x D] of a search with these settings, and their origins.

    Of a grid there are no more than its weights. A longer design begins with the shorter one.
    """
    if settings["initial"] == "grid":
        points = grid(settings["weights"], variables)[:n]
        return points, ["grid"] * len(points)
    return warm_start(variables, sources, n, settings["seed"])


def warm_start(
    variables: Variables, sources: Sequence[str], n: int, seed: int
) -> tuple[NDArray[np.float64], list[str]]:
    """First n points [n x D] and their origins: each source (the last one first), the balance, then scrambled Sobol.

    Weights of the Sobol points are uniform on the simplex.
    """
    count = len(sources)
    order = [count - 1, *range(count - 1)]
    weights = [*(alone(place, count) for place in order), [1 / count] * count]
    names = ["all-0", "all-1"] if count == 2 else [f"all-{sources[place]}" for place in order]
    names.append("balanced")
    fixed = np.array([everywhere(own, variables) for own in weights])
    random = spread(sobol(len(variables), max(n - len(fixed), 0), seed), variables)
    return tidied(np.concatenate([fixed, random])[:n], variables), (names + ["sobol"] * n)[:n]


def grid(weights: Sequence[float] | Sequence[Sequence[float]], variables: Variables) -> NDArray[np.float64]:
    """One point [1 x D] a weight of the first source, or a list of the weights of all: [n x D]."""
    rows = [own if isinstance(own, Sequence) else [own, 1 - own] for own in weights]
    return tidied(np.array([everywhere(own, variables) for own in rows]), variables)


def sobol(dimension: int, n: int, seed: int) -> NDArray[np.float64]:
    """n scrambled Sobol points [n x dimension]."""
    # Drawn as a power of two, as their balance asks for, then cut.
    power = ceil(log2(max(n, 1)))
    return rounded(qmc.Sobol(dimension, rng=seed).random_base2(power)[:n])
