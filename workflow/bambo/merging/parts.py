"""What a recipe says of one tensor: which models take part, with which weights, and how a piece of it is merged."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ..checkpoint import members
from ..methods import METHODS, Method
from . import linear, spherical, task_vectors
from .draws import key_of
from .sources import Sources
from .sparsifiers import MASKS, Mask, TaskVector
from .tensors import Tensor

# Of statistics; fixed, since sums over other pieces differ in their last digits.
BLOCK = 1 << 18
# Of rows that are sorted, with several 8-byte numbers an element.
RANKED = 1 << 16

Statistics = dict[int, list[float]]  # source -> what its mask needs to know


@dataclass(frozen=True)
class Part:
    """One tensor of the merged model.

    thetas: the models that take part, by their place among the sources; those with weight 0 do not. base: what task
    vectors are differences from, None where the method takes none.
    """

    name: str
    shape: tuple[int, ...]
    method: Method
    thetas: dict[int, Tensor]
    weights: dict[int, float]
    base: Tensor | None
    parameters: Mapping[str, float]
    keys: Mapping[int, int]  # of random draws
    rescale_l1: bool

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def row(self) -> int:
        return max(1, self.shape[-1]) if self.shape else 1

    @property
    def mask(self) -> Mask | None:
        return None if self.method.sparsifier == "none" else MASKS[self.method.sparsifier]

    @property
    def buffers(self) -> int:
        """Rows of `merge`'s work space."""
        return task_vectors.buffers(len(self.thetas), self.method.consensus) if self.base is not None else 2

    @property
    def same_as(self) -> Tensor | None:
        """The tensor that the result is equal to, bit for bit, where that is plain from the weights."""
        if self.base is not None:
            return None if self.thetas else self.base
        return next(iter(self.thetas.values())) if len(self.thetas) == 1 else None

    def pieces(self, size: int) -> Iterator[tuple[int, int]]:
        """Start and end of pieces of about `size` elements, of whole rows where the mask asks for them."""
        if self.mask is not None and self.mask.whole_rows:
            size = max(1, min(size, RANKED) // self.row) * self.row
        for start in range(0, self.count, size):
            yield start, min(start + size, self.count)

    def statistics(self) -> Statistics:
        """What the merge of any piece needs to know of the whole; it does not depend on the weights."""
        if self.mask is not None:
            found = {
                j: self.mask.statistics(self._vectors[j], self.parameters, self.rescale_l1)
                for j in self.thetas
            }
            return {j: values for j, values in found.items() if values}
        if self.method is METHODS["slerp"] and len(self.thetas) == 2:
            a, b = self.thetas.values()
            pairs = ((a.piece(*ends), b.piece(*ends)) for ends in self.pieces(BLOCK))
            return {0: spherical.statistics(pairs)}
        return {}

    def merge(
        self,
        start: int,
        stop: int,
        statistics: Mapping[int, list[float]],
        work: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """Merge elements start to stop into `out`; work: float32 [`buffers`, stop - start]."""
        thetas = [theta.piece(start, stop) for theta in self.thetas.values()]
        weights = list(self.weights.values())
        if self.base is not None:
            mask, places = self.mask, list(self.thetas)

            def sparsify(j: int, delta: torch.Tensor, scratch: torch.Tensor) -> None:
                place = places[j]
                assert mask is not None
                mask.apply(
                    delta,
                    start,
                    self._vectors[place],
                    self.parameters,
                    statistics.get(place, []),
                    scratch,
                )

            task_vectors.combine(
                self.base.piece(start, stop),
                thetas,
                weights,
                self.parameters["lambda"],
                None if mask is None else sparsify,
                work,
                out,
                consensus=self.method.consensus,
                normalise=self.method.normalise,
            )
        elif self.method is METHODS["slerp"]:
            spherical.combine(thetas, weights, statistics[0][0], work, out)
        else:
            linear.combine(thetas, weights, work, out)

    @cached_property
    def _vectors(self) -> dict[int, TaskVector]:
        return {j: self._vector(j) for j in self.thetas}

    def _vector(self, place: int) -> TaskVector:
        theta, base = self.thetas[place], self.base
        assert base is not None

        def piece(start: int, stop: int) -> torch.Tensor:
            return theta.piece(start, stop).float() - base.piece(start, stop).float()

        def pieces() -> Iterator[tuple[int, torch.Tensor]]:
            for start, stop in self.pieces(BLOCK):
                yield start, piece(start, stop)

        return TaskVector(self.count, self.row, self.keys.get(place, 0), piece, pieces)


def parts_of(recipe: Mapping[str, Any], sources: Sources, every_source: bool = False) -> dict[str, Part]:
    """The floating tensors of the merged model; every_source: also those with weight 0, to share their statistics."""
    method = METHODS[recipe["method"]]
    options = recipe.get("options", {})
    models = list(recipe["sources"].values())
    parts = {}
    for group, names in members(sources.groups, recipe["weights"]).items():
        weights = recipe["weights"][group]
        parameters = {key: own[group] for key, own in recipe.get("parameters", {}).items()}
        takes_part = [j for j, weight in enumerate(weights) if weight or every_source]
        if method.task_vectors and sources.base is None:
            # The last source is the base: its own task vector is zero.
            takes_part = [j for j in takes_part if j != len(models) - 1]
        for name in names:
            if name in sources.copied:
                continue
            base = (sources.base or sources.tensors[-1])[name] if method.task_vectors else None
            parts[name] = Part(
                name=name,
                shape=sources.template.tensors[name].shape,
                method=method,
                thetas={j: sources.tensors[j][name] for j in takes_part},
                weights={j: weights[j] for j in takes_part},
                base=base,
                parameters=parameters,
                keys={
                    j: key_of(options.get("seed", 0), models[j]["fingerprint"], name)
                    for j in (takes_part if method.random else [])
                },
                rescale_l1=options.get("rescale") == "l1",
            )
    return parts
