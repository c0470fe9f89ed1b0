"""Task vectors d_j = theta_j - base: sparsified, weighted, where asked for a common sign, and added to the base."""

from collections.abc import Callable, Sequence

import torch

LEAST = 1e-9
# Masks the j-th task vector's piece [n] in place; the second argument is scratch [n].
Sparsify = Callable[[int, torch.Tensor, torch.Tensor], None]


def buffers(count: int, consensus: bool) -> int:
    """Rows of `combine`'s work space for `count` task vectors."""
    return 4 + (count if consensus else 0)


def combine(
    base: torch.Tensor,
    thetas: Sequence[torch.Tensor],
    weights: Sequence[float],
    factor: float,
    sparsify: Sparsify | None,
    work: torch.Tensor,
    out: torch.Tensor,
    *,
    consensus: bool,
    normalise: bool,
) -> None:
    """Merge one flat piece [n] of base and sources, in float32, rounded once into `out` [n].

    factor: lambda of the formula in `bambo.methods`; work: float32 [buffers(...), n], overwritten. Order and rounding
    of the operations are those of mergekit.
    """
    origin, total, scratch, delta, *terms = work
    origin.copy_(base)
    for j, (theta, weight) in enumerate(zip(thetas, weights, strict=True)):
        # Terms are kept for the second look that a consensus takes; without one, the first is the sum so far.
        term = terms[j] if consensus else delta if j else total
        term.copy_(theta).sub_(origin)
        if sparsify is not None:
            sparsify(j, term, scratch)
        term.mul_(weight)
        if j:
            total.add_(term)
        elif consensus:
            total.copy_(term)
    if consensus:
        _agree(total, terms, weights, scratch, delta, normalise)
    if factor != 1:
        total.mul_(factor)
    out.copy_(total.add_(origin))


def _agree(
    total: torch.Tensor,
    terms: Sequence[torch.Tensor],
    weights: Sequence[float],
    scratch: torch.Tensor,
    divisor: torch.Tensor,
    normalise: bool,
) -> None:
    """Put the sum of the terms that have the sign of `total` in its place, divided by their weights if asked."""
    sign = torch.ge(total, 0, out=scratch).mul_(2).sub_(1)  # 0 counts as +
    total.zero_()
    divisor.zero_()
    for term, weight in zip(terms, weights, strict=True):
        # Turned so that what agrees is positive.
        total.add_(term.mul_(sign).clamp_min_(0))
        if normalise:
            divisor.add_(term.gt_(0).mul_(weight))
    total.mul_(sign)
    if normalise:
        # Where nothing agrees, the sum is 0, too; no weight is as small as that.
        total.div_(divisor.clamp_min_(LEAST))
