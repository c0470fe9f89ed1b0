"""Linear interpolation, which for weights with sum 1 is task arithmetic: base + sum_j w_j (theta_j - base).

The base of task arithmetic cancels out, so the last source takes its place (Ilharco et al., 2022; BAMBO, Eq.
3).
"""

from collections.abc import Sequence

import torch


def verbatim(weights: Sequence[float]) -> int | None:
    """Index of the source that the merge is equal to, where one weight is 1 and the others are 0."""
    others = [weight for weight in weights if weight != 1]
    return weights.index(1) if len(others) == len(weights) - 1 and not any(others) else None


def combine(
    pieces: Sequence[torch.Tensor], weights: Sequence[float], work: torch.Tensor, out: torch.Tensor
) -> None:
    """Merge one flat piece [n] of every source, in float32 and delta form, rounded once into `out` [n].

    work: float32 [3, n], overwritten; fresh memory for every piece would cost more than the arithmetic.
    """
    last, total, delta = work
    last.copy_(pieces[-1])
    for j, (theta, weight) in enumerate(zip(pieces[:-1], weights[:-1], strict=True)):
        # Not torch.lerp or add(alpha=...): fused, they round differently from the formula.
        term = (delta if j else total).copy_(theta).sub_(last).mul_(weight)
        if j:
            total.add_(term)
    out.copy_(total.add_(last))
