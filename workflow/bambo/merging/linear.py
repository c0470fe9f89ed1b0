"""Linear interpolation: sum_j w_j theta_j with weights of sum 1 (BAMBO, Eq. 3; model soups).

Task arithmetic with lambda 1 and the same weights is this, whatever its base, which cancels out.
"""

from collections.abc import Sequence

import numpy as np
import torch


def combine(
    thetas: Sequence[torch.Tensor], weights: Sequence[float], work: torch.Tensor, out: torch.Tensor
) -> None:
    """Merge one flat piece [n] of every source, in float32, rounded once into `out` [n].

    work: float32 [2, n], overwritten. Multiply-adds are fused, and what weights are short of 1 in float32 is divided
    out: bit-equal to mergekit's `linear` where the processor fuses them, too.
    """
    total, term = work
    total.copy_(thetas[0]).mul_(weights[0])
    for theta, weight in zip(thetas[1:], weights[1:], strict=True):
        total.add_(term.copy_(theta), alpha=weight)
    shares = np.float32(0)
    for weight in weights:
        shares += np.float32(weight)
    if shares != 1:
        total.div_(float(shares))
    out.copy_(total)
