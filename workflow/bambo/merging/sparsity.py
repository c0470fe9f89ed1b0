"""How far a merged model is from the base: MM-MO's third objective, told from a sample of each tensor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .engine import Desk
from .parts import Part, parts_of
from .sources import open_sources
from .statistics import gathered, one_thread
from .tensors import FLOATS

PIECES, PIECE = 16, 1 << 12  # of each tensor, spread evenly: how many at most, of about how many elements
DECIMALS = 6  # of what is recorded


def sparsity(recipe: Mapping[str, Any], base: Mapping[str, str] | None, cache: Path | None = None) -> float:
    """Minus the L1 norm of (merged model - base), as a share of the largest of the sources' own, to 6 decimals.

    So 0 is the base and -1 the source that is farthest from it. Norms are those of PIECES pieces of PIECE elements,
    scaled to each tensor: exact for tensors of up to 65,536 elements.
    recipe: of any merge, and of a source alone; base: a record as a recipe's sources have it, None where the last
    source serves as the base; cache: as in `gathered`. BadInput as `open_sources`.
    """
    sources = open_sources(recipe if base is None else {**recipe, "base": dict(base)})
    origin = sources.base or sources.tensors[-1]
    statistics = gathered(recipe, sources, 1, cache)
    desk = Desk("cpu")
    norms = torch.zeros(1 + len(sources.tensors), dtype=torch.float64)
    with one_thread():
        for name, part in parts_of(recipe, sources).items():
            dtype = FLOATS[sources.template.tensors[name].dtype]
            pieces = _spread(part)
            sums = torch.zeros_like(norms)
            for start, stop in pieces:
                merged = desk.merged(part, start, stop, statistics.get(name, {}), dtype)
                models = [merged, *(own[name].piece(start, stop) for own in sources.tensors)]
                zero = origin[name].piece(start, stop).double()
                sums += torch.stack([(model.double() - zero).abs().sum() for model in models])
            norms += sums * part.count / sum(stop - start for start, stop in pieces)
    return -round(float(norms[0] / norms[1:].max()), DECIMALS)


def _spread(part: Part) -> list[tuple[int, int]]:
    """Start and end of the pieces of a tensor that are looked at."""
    pieces = list(part.pieces(PIECE))
    count = min(PIECES, len(pieces))
    return [pieces[place * len(pieces) // count] for place in range(count)]
