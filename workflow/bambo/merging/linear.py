"""Linear interpolation: sum_j w_j theta_j with weights of sum 1 (BAMBO, Eq. 3; model soups).

Task arithmetic with lambda 1 and the same weights is this, whatever its base, which cancels out.
"""

from collections.abc import Sequence

import torch


def combine(
    thetas: Sequence[torch.Tensor], weights: Sequence[float], work: torch.Tensor, out: torch.Tensor
) -> None:
    """Merge one flat piece [n] of every source, in float32, rounded once into `out` [n]; work: float32 [2, n].

    As a running mean, each step of which is a + t (b - a): what is equal in all sources stays as it is. Two sources of
    the result's type take one pass without copies (torch.lerp of 16 bits calculates in float32, too), which makes
    merging as fast as reading and writing; sums of products would take five.
    """
    if (
        len(thetas) == 2
        and {theta.dtype for theta in thetas} == {out.dtype}
        and out.device == thetas[0].device
    ):
        torch.lerp(thetas[0], thetas[1], weights[1] / (weights[0] + weights[1]), out=out)
        return
    mean, theta = work
    mean.copy_(thetas[0])
    total = weights[0]
    for piece, weight in zip(thetas[1:], weights[1:], strict=True):
        total += weight
        mean.lerp_(theta.copy_(piece), weight / total)
    out.copy_(mean)
