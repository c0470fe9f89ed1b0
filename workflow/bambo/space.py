"""The search space: variables, each one weight for a set of tensor groups, and back to weights per group."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from .checkpoint import EMBEDDINGS, HEAD
from .partition import blocks, layer_means

# A variable below this share of the difference norm is noise to the surrogate rather than a dimension.
LEAST_SHARE = 0.001

log = logging.getLogger(__name__)


def variables(
    differences: pd.DataFrame, n_blocks: int, strategy: str = "hybrid", norm: int = 2, fold: bool = True
) -> list[dict[str, Any]]:
    """Variables of a search: embeddings, the blocks by depth, head; a single one for strategy `model`.

    differences: of `layer_differences`. Each variable has its name, its tensor groups, its number of
    parameters, its `difference` (L2 norm over all its tensors) and `share` (that norm over the norm of the
    whole model: shares add up to 1 in squares). Logs them; one that moves less than 0.1 % is warned about
    and, if `fold`, joined to the variable before it (the first one: to the one behind it).
    Raises BadInput for identical sources, more blocks than layers or an unknown strategy.
    """
    layers = [group for group in differences["group"].unique() if group not in (EMBEDDINGS, HEAD)]
    partition = blocks(layer_means(differences, norm), n_blocks, strategy)
    present = set(differences["group"])
    if strategy == "model":
        parts = [("model", [*differences["group"].unique()])]
    else:
        parts = [(_block_name(block), [layers[i] for i in block]) for block in partition]
        parts = [(EMBEDDINGS, [EMBEDDINGS]), *parts, (HEAD, [HEAD])]
        parts = [(name, groups) for name, groups in parts if present.issuperset(groups)]
    found = [_variable(name, groups, differences) for name, groups in parts]
    for variable in found:
        log.info(
            "%(name)s: %(parameters)d parameters, difference norm %(difference).4g, share %(share).2e",
            variable,
        )
    return _fold(found, differences, fold)


def _block_name(block: range) -> str:
    return f"layer {block[0]}" if len(block) == 1 else f"layers {block[0]}-{block[-1]}"


def _variable(name: str, groups: list[str], differences: pd.DataFrame) -> dict[str, Any]:
    members = differences[differences["group"].isin(groups)]
    difference = math.sqrt((members["l2"] ** 2).sum())
    return {
        "name": name,
        "groups": groups,
        "parameters": int(members["parameters"].sum()),
        "difference": difference,
        "share": difference / math.sqrt((differences["l2"] ** 2).sum()),
    }


def _fold(found: list[dict[str, Any]], differences: pd.DataFrame, fold: bool) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for variable in found:
        small = variable["share"] < LEAST_SHARE
        if small:
            log.warning(
                "%s moves %.3f %% of the difference norm, less than %.1f %%: %s",
                variable["name"], 100 * variable["share"], 100 * LEAST_SHARE,
                "folded into its neighbour" if fold else "its weight hardly changes the model",
            )  # fmt: skip
        # A first variable too small to stand alone takes the next one in.
        if fold and kept and (small or kept[-1]["share"] < LEAST_SHARE):
            before = kept.pop()
            name = f"{before['name']} + {variable['name']}"
            variable = _variable(name, [*before["groups"], *variable["groups"]], differences)
        kept.append(variable)
    return kept


def expand(x: Sequence[float], variables: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Weight of the first source per tensor group, from a point x (shape [D], one value a variable)."""
    return {
        group: float(weight)
        for weight, variable in zip(x, variables, strict=True)
        for group in variable["groups"]
    }
