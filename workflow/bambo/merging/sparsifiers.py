"""Sparsifiers S(d) of task vectors: which elements are kept, and by what they are multiplied.

Each is two pure functions: `statistics` of a whole tensor, from its pieces, and `apply`, to one piece in place. The
statistics depend on source, base and parameters alone, so that all candidates of a run can share them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ..methods import Sparsifier
from .draws import uniform
from .thresholds import largest


@dataclass(frozen=True)
class TaskVector:
    """A task vector d of n elements in rows of `row`, as float32 pieces.

    piece: elements start to stop; pieces: (start, piece) along all of it, in whole rows; key: of its random draws.
    """

    count: int
    row: int
    key: int
    piece: Callable[[int, int], torch.Tensor]
    pieces: Callable[[], Iterator[tuple[int, torch.Tensor]]]


class Mask(Protocol):
    """A sparsifier. rescale_l1: multiply what is kept so that the tensor's L1 norm stays as it was, as mergekit does;
    otherwise by what the papers say."""

    whole_rows: bool  # whether pieces must be of whole rows

    def statistics(
        self, vector: TaskVector, parameters: Mapping[str, float], rescale_l1: bool
    ) -> list[float]:
        """What `apply` needs to know of the whole; empty where that is nothing."""
        ...

    def apply(
        self,
        delta: torch.Tensor,
        start: int,
        vector: TaskVector,
        parameters: Mapping[str, float],
        statistics: list[float],
        scratch: torch.Tensor,
    ) -> None:
        """Mask the piece `delta` [n] that begins at element `start`, in place; scratch: [n]."""
        ...


class Band:
    """Keeps magnitudes between two thresholds, for density rho, gamma and n elements: of all, the int(gamma n) largest
    are dropped (Breadcrumbs; none of them for TIES), then the int(rho n) largest that are left are kept, at least one.

    Tie rule: what is as large as the first or the last element that is kept is kept, too. So the result does not
    depend on an order among equal elements, and rather more than rho n of them are kept: differences of bfloat16
    weights take few values.
    """

    whole_rows = False

    def statistics(
        self, vector: TaskVector, parameters: Mapping[str, float], rescale_l1: bool
    ) -> list[float]:
        """Smallest and largest magnitude that is kept."""
        density, gamma = parameters["density"], parameters.get("gamma", 0.0)
        if density == 1:
            return []
        dropped = int(gamma * vector.count)
        last = min(dropped + max(1, int(density * vector.count)), vector.count)
        ranks = [last, dropped + 1] if dropped else [last]
        return largest(lambda: (d for _, d in vector.pieces()), vector.piece, vector.count, ranks)

    def apply(
        self,
        delta: torch.Tensor,
        start: int,
        vector: TaskVector,
        parameters: Mapping[str, float],
        statistics: list[float],
        scratch: torch.Tensor,
    ) -> None:
        if statistics and statistics[0] > 0:
            # hardshrink keeps what is larger than its bound.
            below = float(np.nextafter(np.float32(statistics[0]), np.float32(0)))
            torch.hardshrink(delta, below, out=delta)
        for bound in statistics[1:]:
            delta.sub_(torch.hardshrink(delta, bound, out=scratch))


class Drawn(Mask):
    """Keeps elements by chance."""

    def statistics(
        self, vector: TaskVector, parameters: Mapping[str, float], rescale_l1: bool
    ) -> list[float]:
        """L1 norm over that of what is kept, where that is to be made up for; 1 where nothing is kept."""
        if not rescale_l1 or parameters["density"] == 1:
            return []
        whole = kept = 0.0
        for start, delta in vector.pieces():
            whole += delta.abs().sum(dtype=torch.float64).item()
            self.apply(delta, start, vector, parameters, [1.0], torch.empty_like(delta))
            kept += delta.abs_().sum(dtype=torch.float64).item()
        return [whole / kept if kept else 1.0]


class Random(Drawn):
    """DARE: every element is kept with probability rho, and divided by it."""

    whole_rows = False

    def apply(
        self,
        delta: torch.Tensor,
        start: int,
        vector: TaskVector,
        parameters: Mapping[str, float],
        statistics: list[float],
        scratch: torch.Tensor,
    ) -> None:
        density = parameters["density"]
        if density == 1:
            return
        delta.mul_(_draws(vector, start, delta, scratch).lt_(density))
        delta.mul_(statistics[0] if statistics else 1 / density)


class Rank(Drawn):
    """DELLA (MagPrune): an element is kept with a probability that grows with its magnitude's rank r in its row of m,
    p = rho - epsilon + 2 epsilon (r - 1) / (m - 1), and divided by it. Equal magnitudes rank by position.
    """

    whole_rows = True

    def apply(
        self,
        delta: torch.Tensor,
        start: int,
        vector: TaskVector,
        parameters: Mapping[str, float],
        statistics: list[float],
        scratch: torch.Tensor,
    ) -> None:
        density, epsilon = parameters["density"], parameters["epsilon"]
        if density == 1:
            return
        kept = _draws(vector, start, delta, scratch)
        probabilities = self._probabilities(delta, vector.row, density, epsilon)
        delta.mul_(kept.lt_(probabilities))
        if statistics:
            delta.mul_(statistics[0])
        else:
            delta.div_(probabilities)

    @staticmethod
    def _probabilities(delta: torch.Tensor, row: int, density: float, epsilon: float) -> torch.Tensor:
        """p of every element [n]."""
        magnitudes = delta.abs().cpu().numpy().view(np.int32).reshape(-1, row)
        # Magnitude and position as one number (little-endian), so that no two are equal and one sort, for which there
        # are fast ones, gives the ranks.
        keys = np.empty((*magnitudes.shape, 2), np.int32)
        keys[..., 1] = magnitudes
        keys[..., 0] = np.arange(row, dtype=np.int32)
        order = np.sort(keys.view(np.int64)[..., 0], axis=1).view(np.int32).reshape(keys.shape)[..., 0]
        step = 2 * epsilon / max(row - 1, 1)
        lowest = density - epsilon if row > 1 else density
        by_rank = (lowest + step * np.arange(row)).astype(np.float32)
        found = torch.empty(magnitudes.shape)
        found.scatter_(
            1, torch.from_numpy(order.astype(np.int64)), torch.from_numpy(by_rank).expand(found.shape)
        )
        return found.view(-1).to(delta.device)


MASKS: dict[Sparsifier, Mask] = {"magnitude": Band(), "band": Band(), "random": Random(), "rank": Rank()}


def _draws(vector: TaskVector, start: int, delta: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
    """Numbers in [0, 1) for the elements of a piece, in scratch where that is the processor's memory."""
    numbers = scratch if scratch.device.type == "cpu" else torch.empty(len(scratch))
    uniform(vector.key, start, numbers.numpy())
    return numbers.to(delta.device)
