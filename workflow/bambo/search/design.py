"""The first points of a search (section 3.3)."""

from collections.abc import Sequence
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

DECIMALS = 6  # a weight has this many; candidates that agree in all of them are the same model


def warm_start(dimension: int, n: int, seed: int) -> tuple[NDArray[np.float64], list[str]]:
    """First n points [n x dimension] and their origins: both ends, the middle, then scrambled Sobol."""
    names = {"all-0": 0.0, "all-1": 1.0, "balanced": 0.5}
    fixed = np.repeat(np.array(list(names.values()))[:, None], dimension, axis=1)
    X = np.concatenate([fixed, sobol(dimension, max(n - len(fixed), 0), seed)])[:n]
    return X, (list(names) + ["sobol"] * n)[:n]


def grid(weights: Sequence[float]) -> NDArray[np.float64]:
    """One point [1] a weight: [n x 1]."""
    return rounded(np.asarray(weights, dtype=np.float64)[:, None])


def sobol(dimension: int, n: int, seed: int) -> NDArray[np.float64]:
    """n scrambled Sobol points [n x dimension]."""
    # Drawn as a power of two, as their balance asks for, then cut.
    power = ceil(log2(max(n, 1)))
    return rounded(qmc.Sobol(dimension, rng=seed).random_base2(power)[:n])


def rounded(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """X within [0, 1], to the 6 decimals that make a candidate's identity; never -0."""
    return np.clip(X, 0.0, 1.0).round(DECIMALS) + 0.0
