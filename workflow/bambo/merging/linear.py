"""Linear interpolation: sum_j w_j theta_j with weights of sum 1 (BAMBO, Eq. 3; model soups).

Task arithmetic with lambda 1 and the same weights is this, whatever its base, which cancels out.
"""

from collections.abc import Sequence

import numpy as np
import torch


def combine(
    thetas: Sequence[torch.Tensor], weights: Sequence[float], work: torch.Tensor, out: torch.Tensor
) -> None:
    """Merge one flat piece [n] of every source, in float32, rounded once into `out` [n]; work: float32 [2, n].

    In the order of the sources, with fused multiply-adds, and what float32 weights miss of a sum of 1 divided out: bit
    for bit what mergekit's `linear` gives. torch.lerp takes one pass where this takes five, a fifth of the whole merge,
    but rounds otherwise where the exact value lies halfway between two numbers of 16 bits.
    """
    total, theta = work
    total.copy_(thetas[0]).mul_(weights[0])
    for piece, weight in zip(thetas[1:], weights[1:], strict=True):
        total.add_(theta.copy_(piece), alpha=weight)
    shares = np.float32(0)
    for weight in weights:
        shares += np.float32(weight)
    if shares != 1:
        total.div_(float(shares))
    out.copy_(total)
