"""How much each part of the model may matter, told from the sources before anything is evaluated (AP-BMM).

Two discrepancies of the sources, each a number a tensor group: of the parameters, p = mean over the group's tensors of
||R - B||_2 / ||B||_2, and of the activations, a = mean over prompts of 1 - cos(h_R, h_B), h being the hidden state of
the last token behind the group. B is the last source, R the other one; of more, the mean over them is taken. Then

    N(v) = 1 / (1 + exp(-(v - median v) / (1.4826 MAD v))), min-max where MAD is 0
    I    = w_p N(p) + w_a N(a), with weights of sum 1, smoothed by (1/4, 1/2, 1/4) along the layers, cut to [.05, 1]

Groups are embeddings, layers and head; of modules, attention and MLP of each layer in the layer's place, each with its
own p and its layer's a. Only layers are smoothed, attention along attention and MLP along MLP: embeddings and head are
no neighbours of the same kind.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from .checkpoint import EMBEDDINGS, HEAD, without_module
from .errors import BadInput
from .space import by_module

LEAST, MOST = 0.05, 1.0
NORMAL = 1.4826  # standard deviation of a normal distribution over its median absolute deviation

log = logging.getLogger(__name__)


def read_discrepancies(
    differences: Path, activations: Path | None
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The files of `layer_differences` and `hidden_states`; BadInput where an earlier checkout wrote the first."""
    found = pd.read_parquet(differences)
    if "relative" not in found:
        raise BadInput(
            f"{differences}: no column relative, it was written by an earlier checkout; make it anew with "
            "`snakemake --forcerun differences`"
        )
    return found, pd.read_parquet(activations) if activations else None


def parameter_discrepancy(differences: pd.DataFrame) -> "pd.Series[float]":
    """p of each tensor group, by depth; 0 where all tensors of the last source are zero."""
    return differences.groupby("group", sort=False)["relative"].mean().fillna(0.0)


def activation_discrepancy(activations: pd.DataFrame, groups: Sequence[str]) -> NDArray[np.float64]:
    """a of each group [g]; activations: one row a source, prompt and layer, as `hidden_states` writes them."""
    means = activations.groupby("group")["discrepancy"].mean()
    return means.reindex([without_module(group) for group in groups]).to_numpy(float)


def squash(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """N of values [g], in [0, 1]: .5 at the median, whatever their unit; all .5 where they are equal."""
    middle = np.median(values)
    deviation = NORMAL * np.median(np.abs(values - middle))
    if deviation > 0:
        return expit((values - middle) / deviation)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def smooth(values: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """Values [g] of groups by depth, those of layers smoothed by (1/4, 1/2, 1/4); each end is its own neighbour."""
    found = values.copy()
    kinds: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group not in (EMBEDDINGS, HEAD):
            kinds.setdefault(group.removeprefix(without_module(group)), []).append(row)
    for rows in kinds.values():
        padded = np.pad(values[rows], 1, mode="edge")
        found[rows] = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
    return found


def fuse(
    groups: Sequence[str],
    parameters: NDArray[np.float64],
    activations: NDArray[np.float64] | None,
    weights: Mapping[str, float],
) -> NDArray[np.float64] | None:
    """Importance of groups by depth [g], in [.05, 1]; None, with a warning, where nothing tells them apart.

    activations: None where their weight is 0; weights: of parameters and activations, not both 0.
    """
    pairs = [(weights["parameters"], parameters), (weights["activations"], activations)]
    parts = [(weight, values) for weight, values in pairs if weight > 0 and values is not None]
    if all(np.ptp(values) == 0 for _, values in parts):
        log.warning("the sources differ equally in all parts of the model: searches go without importance")
        return None
    total = sum(weight for weight, _ in parts)
    fused = sum((weight / total * squash(values) for weight, values in parts), np.zeros(len(groups)))
    return np.clip(smooth(fused, groups), LEAST, MOST)


def tables(
    differences: pd.DataFrame,
    activations: pd.DataFrame | None,
    weights: Mapping[str, float],
    granularities: Sequence[str],
) -> pd.DataFrame:
    """One row a granularity and group by depth: granularity, group, parameters (p), activations (a), importance.

    weights: of parameters and activations; granularities: "layer", "module". NaN where there is no value.
    """
    frames = []
    for granularity in granularities:
        found = parameter_discrepancy(by_module(differences) if granularity == "module" else differences)
        groups, own = [str(group) for group in found.index], np.asarray(found, dtype=np.float64)
        other = None if activations is None else activation_discrepancy(activations, groups)
        fused = fuse(groups, own, other, weights)
        empty = np.full(len(groups), np.nan)
        columns = {"parameters": own, "activations": other, "importance": fused}
        columns = {name: empty if values is None else values for name, values in columns.items()}
        frames.append(pd.DataFrame({"granularity": granularity, "group": groups, **columns}))
    return pd.concat(frames, ignore_index=True)


def of_groups(table: pd.DataFrame, granularity: str) -> dict[str, float]:
    """Importance of each group, from importance.csv; of blocks and the whole model, that of layers."""
    rows = table[table["granularity"] == ("module" if granularity == "module" else "layer")]
    return dict(zip(rows["group"], rows["importance"], strict=True))


def of_parts(groups: Iterable[Sequence[str]], importance: Mapping[str, float]) -> list[float] | None:
    """Importance of parts of the model, each given by its groups: the arithmetic mean of theirs, each counting once.

    None where groups have none. Blocks are as important as their layers are on average, not in sum: a block's weight
    moves all its layers by as much, and of how many layers it has the search knows nothing else.
    """
    found = [float(np.mean([importance[group] for group in own])) for own in groups]
    return None if np.isnan(found).any() else found
