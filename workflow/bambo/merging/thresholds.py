"""Order statistics of tensors that are too large to be held: exact, in few megabytes and mostly one pass."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Bits = NDArray[np.int32]
SMALL = 1 << 20  # elements that are simply sorted
SAMPLE, LARGEST_SAMPLE = 1 << 16, 1 << 19
PENDING = 1 << 20  # elements held before equal ones are counted together


def largest(
    pieces: Callable[[], Iterator[torch.Tensor]],
    piece: Callable[[int, int], torch.Tensor],
    count: int,
    ranks: Sequence[int],
) -> list[float]:
    """The magnitude of the k-th largest of `count` elements for every k of `ranks` (1 is the largest).

    pieces: walks along all elements, as float32 pieces; piece: elements start to stop. A sample tells between which
    magnitudes each is to be found; one pass counts what lies above and looks at what lies between. Magnitudes are
    compared by their bits, which for positive floats have the same order.
    """
    if count <= SMALL:
        bits = np.sort(np.concatenate([_bits(values) for values in pieces()]))
        return [_value(bits[count - rank]) for rank in ranks]
    brackets = _brackets(piece, count, ranks)
    found: list[int | None] = _search(pieces, brackets, ranks)
    if None in found:
        # A sample that misleads: the 2^16 bins of the upper half of the bits never do.
        found = _search(pieces, _bins(pieces, ranks), ranks)
    return [_value(bits) for bits in found]


def _brackets(
    piece: Callable[[int, int], torch.Tensor], count: int, ranks: Sequence[int]
) -> list[tuple[int, int]]:
    """Bits between which each rank lies, but for bad luck: five standard deviations about the sample's quantile."""
    size = 1024  # an adapter makes whole rows for a piece
    # Of a larger tensor a larger sample, since all that lies within a bracket is held.
    pieces = max(SAMPLE, min(count >> 8, LARGEST_SAMPLE)) // size
    starts = np.linspace(0, count - size, pieces, dtype=np.int64).tolist()
    sample = np.sort(np.concatenate([_bits(piece(start, start + size)) for start in starts]))
    brackets = []
    for rank in ranks:
        share = (count - rank) / count
        spread = 5 * math.sqrt(share * (1 - share) * len(sample)) + 2
        low, high = (math.floor(share * len(sample) + side * spread) for side in (-1, 1))
        top = np.iinfo(np.int32).max
        brackets.append(
            (int(sample[low]) if low >= 0 else 0, int(sample[high]) if high < len(sample) else top)
        )
    return brackets


def _search(
    pieces: Callable[[], Iterator[torch.Tensor]], brackets: Sequence[tuple[int, int]], ranks: Sequence[int]
) -> list[int | None]:
    """The bits of each rank in one pass; None where it lies outside of its bracket."""
    above = [0] * len(ranks)
    between = [_Counted() for _ in ranks]
    for values in pieces():
        bits = _bits(values)
        for i, (low, high) in enumerate(brackets):
            # One comparison for both bounds: what lies below wraps around to large numbers.
            inside = (bits - low).view(np.uint32) <= high - low
            above[i] += int(np.count_nonzero(bits > high))
            between[i].add(bits[inside])
    return [counted.largest(rank - more) for counted, rank, more in zip(between, ranks, above, strict=True)]


class _Counted:
    """A multiset of numbers that takes little room where many are equal, as differences of bfloat16 are."""

    def __init__(self) -> None:
        self.pending: list[Bits] = []
        self.size = 0
        self.values = np.empty(0, np.int32)
        self.counts = np.empty(0, np.int64)

    def add(self, bits: Bits) -> None:
        self.pending.append(bits)
        self.size += len(bits)
        if self.size >= PENDING:
            self._merge()

    def _merge(self) -> None:
        values, counts = np.unique(np.concatenate([*self.pending, np.empty(0, np.int32)]), return_counts=True)
        values, places = np.unique(np.concatenate([self.values, values]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([self.counts, counts]), len(values)).astype(np.int64)
        self.values, self.counts, self.pending, self.size = values, counts, [], 0

    def largest(self, rank: int) -> int | None:
        """The rank-th largest number (1 is the largest); None where there are not so many."""
        self._merge()
        upto = np.cumsum(self.counts[::-1])
        if rank < 1 or not len(upto) or rank > upto[-1]:
            return None
        return int(self.values[::-1][np.searchsorted(upto, rank)])


def _bins(pieces: Callable[[], Iterator[torch.Tensor]], ranks: Sequence[int]) -> list[tuple[int, int]]:
    counts = np.zeros(1 << 15, np.int64)
    for values in pieces():
        counts += np.bincount(_bits(values) >> 16, minlength=1 << 15)
    upto = np.cumsum(counts[::-1])
    bins = [(1 << 15) - 1 - int(np.searchsorted(upto, rank)) for rank in ranks]
    return [(bin << 16, (bin << 16) + 0xFFFF) for bin in bins]


def _bits(values: torch.Tensor) -> Bits:
    return values.abs().numpy().view(np.int32)


def _value(bits: int | np.integer | None) -> float:
    return float(np.array(bits, np.int32).view(np.float32))
