"""Spherical linear interpolation of two sources, each tensor taken as one vector (Shoemake, 1985).

With the angle phi between a (weight w) and b: (sin(w phi) a + sin((1 - w) phi) b) / sin(phi), of the vectors as they
are, not their directions. Nearly parallel ones, or opposite ones, are interpolated linearly.
"""

import math
from collections.abc import Iterable, Sequence

import torch

PARALLEL = 0.9995  # cosine


def statistics(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """Cosine of two tensors, from their pieces; 0 where one of them is zero."""
    dot = a_square = b_square = 0.0
    for a, b in pairs:
        a, b = a.double(), b.double()
        dot += torch.dot(a, b).item()
        a_square += torch.dot(a, a).item()
        b_square += torch.dot(b, b).item()
    norms = math.sqrt(a_square * b_square)
    return [max(-1.0, min(1.0, dot / norms)) if norms else 0.0]


def combine(
    thetas: Sequence[torch.Tensor],
    weights: Sequence[float],
    cosine: float,
    work: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """Merge one flat piece [n] of both sources, in float32, rounded once into `out` [n]; work: float32 [2, n]."""
    first, second = weights
    if abs(cosine) <= PARALLEL:
        angle = math.acos(cosine)
        first, second = (math.sin(weight * angle) / math.sin(angle) for weight in weights)
    total, term = work
    total.copy_(thetas[0]).mul_(first)
    out.copy_(total.add_(term.copy_(thetas[1]).mul_(second)))
