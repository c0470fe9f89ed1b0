"""Blocks of layers that share a weight: layer differences and hybrid optimal block partitioning.

Equations and algorithm: BAMBO, section 3.2 (Eq. 4-6, Algorithm 1).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .checkpoint import EMBEDDINGS, HEAD, Checkpoint, groups
from .errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

    from .merging.tensors import Tensor

# strategy -> (variance_weight, balance_weight); the others need no optimisation.
WEIGHTS = {"hybrid": (1.0, 0.005), "variance": (1.0, 0.0), "balance": (0.0, 1.0)}
STRATEGIES = (*WEIGHTS, "uniform", "layer", "model")
# Elements; few enough for the temporary arrays of a piece to stay in the cache and in the allocator's hands.
PIECE = 1 << 17


def layer_differences(checkpoints: Sequence[Checkpoint], files_from: int = 0) -> "pd.DataFrame":
    """Difference of the sources in every tensor (Eq. 4), in one pass and a few megabytes of memory.

    checkpoints: compatible ones; where vocabularies differ, all are made as large as that of index `files_from`.
    Returns one row a tensor, in the order of depth: group, tensor, parameters, and for p = 1 and 2 the
    columns l1, l2 = sum over the sources of ||theta - mean over the sources||_p. The base model of Eq. 4's
    task vectors cancels out. Column relative is the mean over the other sources of ||theta - last source||_2 /
    ||last source||_2 (AP-BMM's parameter discrepancy), NaN where the last source is all zero.
    Raises BadInput for sources that are identical.
    """
    # Here, not above: it imports torch, which the plan of a run need not wait for.
    from .merging.sources import open_tensors

    template = checkpoints[files_from]
    sources = open_tensors(checkpoints, template)
    rows = []
    for group, names in groups(template).items():
        for name in names:
            parameters = template.tensors[name].parameters
            # Tensors of other types are copied, not merged: they are the same in all sources.
            tensors = [source[name] for source in sources if name in source]
            rows.append((group, name, parameters, *_tensor_difference(tensors, parameters)))
    import pandas as pd  # a quarter of a second, which proposals can do without

    frame = pd.DataFrame(rows, columns=["group", "tensor", "parameters", "l1", "l2", "relative"])
    if not frame["l1"].any():
        raise BadInput(
            f"sources {', '.join(str(c.path) for c in checkpoints)}: all weights are identical, "
            "expected different fine-tunes; give other sources"
        )
    return frame


def _tensor_difference(tensors: Sequence["Tensor"], size: int) -> tuple[float, float, float]:
    """L1 and L2 norms of the deviations from the mean, summed over the sources; mean relative distance from the last.

    0 for no tensors.
    """
    if not tensors:
        return 0.0, 0.0, 0.0
    absolute, square = np.zeros(len(tensors)), np.zeros(len(tensors))
    apart, last = np.zeros(len(tensors) - 1), 0.0
    for start in range(0, size, PIECE):
        stop = min(start + PIECE, size)
        values = np.stack([tensor.piece(start, stop).float().numpy() for tensor in tensors])
        last += float(np.square(values[-1]).sum())
        apart += np.square(values[:-1] - values[-1]).sum(axis=1)
        values -= values.mean(axis=0)
        absolute += np.abs(values).sum(axis=1)
        square += np.square(values, out=values).sum(axis=1)
    relative = float(np.sqrt(apart / last).mean()) if last > 0 and len(apart) else math.nan
    return float(absolute.sum()), float(np.sqrt(square).sum()), relative


def layer_means(differences: "pd.DataFrame", norm: int = 2) -> np.ndarray:
    """Diff_l of every layer by depth, shape [L]: the mean over the layer's tensors of column l1 or l2."""
    inner = differences[~differences["group"].isin([EMBEDDINGS, HEAD])]
    return inner.groupby("group", sort=False)[f"l{norm}"].mean().to_numpy()


def blocks(differences: Sequence[float] | np.ndarray, n_blocks: int, strategy: str = "hybrid") -> list[range]:
    """Partition layers, given their raw differences (shape [L], see `layer_means`), into contiguous blocks.

    strategy: `hybrid`, `variance`, `balance` (see `partition_layers`); `uniform`: equally many layers;
    `layer`: each layer alone; `model`: all together (the last two ignore `n_blocks`).
    The differences are scaled to [0, 1] over the layers first. On the raw norms of a real pair the balance
    term outweighs the variance term (its square grows with the block sums), and the hybrid partition is the
    uniform one.
    Raises BadInput for identical sources and for more blocks than layers.
    """
    values = np.asarray(differences, dtype=float)
    if strategy not in STRATEGIES:
        raise BadInput(f"blocks.strategy: {strategy}, expected one of {', '.join(STRATEGIES)}")
    if strategy == "layer":
        n_blocks = len(values)
    elif strategy == "model":
        n_blocks = 1
    _check(values, n_blocks)
    if strategy in WEIGHTS:
        spread = np.ptp(values)
        # Layers that all differ equally have no scale: any constant then gives the balanced partition.
        scaled = (values - values.min()) / spread if spread > 0 else np.ones_like(values)
        return partition_layers(scaled, n_blocks, *WEIGHTS[strategy])
    edges = np.cumsum([0] + [len(part) for part in np.array_split(values, n_blocks)])
    return [range(int(start), int(end)) for start, end in pairwise(edges)]


def partition_layers(
    differences: Sequence[float] | np.ndarray,
    n_blocks: int,
    variance_weight: float = 1.0,
    balance_weight: float = 0.005,
) -> list[range]:
    """Optimal partition of layers into contiguous blocks, on the values as given (Algorithm 1).

    Minimises the sum over blocks of (Eq. 5, 6, with a weight on either term)
        variance_weight * sum_l (d_l - block mean)^2 + balance_weight * (block sum - total / n_blocks)^2.

    differences: [L], one value a layer. Returns `n_blocks` ranges of layer indices that cover 0..L-1 in
    order; among equal partitions the one whose last blocks start earliest. O(K L^2) by dynamic programming
    over prefix sums.
    Raises BadInput for identical sources (all zero) and for more blocks than layers.
    """
    values = np.asarray(differences, dtype=float)
    _check(values, n_blocks)
    n_layers = len(values)
    # cost[i, j]: layers i..j-1 as one block. Prefix sums of centred values: the spread about a block's mean
    # does not depend on the centre, and far from zero the difference of two large numbers would lose its
    # digits.
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centred = values - values.mean()
    first = np.concatenate([[0.0], np.cumsum(centred)])
    second = np.concatenate([[0.0], np.cumsum(centred**2)])
    start, end = np.triu_indices(n_layers + 1, k=1)
    spread = second[end] - second[start] - (first[end] - first[start]) ** 2 / (end - start)
    imbalance = (sums[end] - sums[start] - sums[-1] / n_blocks) ** 2
    cost = np.full((n_layers + 1, n_layers + 1), np.inf)
    cost[start, end] = variance_weight * np.maximum(spread, 0) + balance_weight * imbalance

    # best[j]: least cost of the first j layers in k blocks; split[k, j]: where the last of those blocks
    # starts.
    best = np.concatenate([[0.0], np.full(n_layers, np.inf)])
    split = np.zeros((n_blocks, n_layers + 1), dtype=int)
    for k in range(n_blocks):
        candidates = best[:, None] + cost
        split[k] = candidates.argmin(axis=0)
        best = candidates.min(axis=0)
    edges = [n_layers]
    for k in reversed(range(n_blocks)):
        edges.append(int(split[k, edges[-1]]))
    return [range(a, b) for a, b in pairwise(reversed(edges))]


def _check(values: np.ndarray, n_blocks: int) -> None:
    if not values.any():
        raise BadInput("sources: all layers are identical, expected different fine-tunes; give other sources")
    if not 1 <= n_blocks <= len(values):
        raise BadInput(
            f"blocks.n_blocks: {n_blocks} blocks, expected 1 to {len(values)}, the number of layers"
        )
