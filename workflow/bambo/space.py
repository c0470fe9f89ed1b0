"""The search space: variables in [0, 1], and the merge that a point of them stands for.

Each part of the model (embeddings, a block, ...) has one variable for every source but the last, and one for every
parameter of the method that is searched. Weights add up to 1: the first source has w_1 = x_1, the next one a share of
the rest, w_2 = x_2 (1 - x_1), ..., and the last one what is left (stick-breaking). A parameter is min + x (max - min).
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import EMBEDDINGS, HEAD, modules, without_module
from .methods import METHODS, PARAMETERS
from .partition import blocks, layer_means
from .recipe import DECIMALS
from .run import Merge, simplest

if TYPE_CHECKING:
    import pandas as pd

# A variable below this share of the difference norm is noise to the surrogate rather than a dimension.
LEAST_SHARE = 0.001

log = logging.getLogger(__name__)


def parts(
    differences: "pd.DataFrame", n_blocks: int, strategy: str = "hybrid", norm: int = 2, fold: bool = True
) -> list[dict[str, Any]]:
    """Parts of the model that a search tells apart: embeddings, the blocks by depth, head; one for strategy `model`.

    Strategy `module` tells attention and MLP of each layer apart.

    differences: of `layer_differences`. Each part has its name, its tensor groups, the number of parameters of each
    (`sizes`) and of all, its `difference` (L2 norm over all its tensors) and `share` (that norm over the norm of the
    whole model: shares add up to 1 in squares). Logs them; one that moves less than 0.1 % is warned about
    and, if `fold`, joined to the part before it (the first one: to the one behind it).
    Raises BadInput for identical sources, more blocks than layers or an unknown strategy.
    """
    if strategy == "module":
        differences = by_module(differences)
    layers = [group for group in differences["group"].unique() if group not in (EMBEDDINGS, HEAD)]
    each = strategy in ("module", "layer")
    partition = blocks(layer_means(differences, norm), n_blocks, "layer" if each else strategy)
    present = set(differences["group"])
    if strategy == "model":
        cut = [("model", [*differences["group"].unique()])]
    else:
        cut = [(_block_name(block, layers), [layers[i] for i in block]) for block in partition]
        cut = [(EMBEDDINGS, [EMBEDDINGS]), *cut, (HEAD, [HEAD])]
        cut = [(name, groups) for name, groups in cut if present.issuperset(groups)]
    found = [_part(name, groups, differences) for name, groups in cut]
    for part in found:
        log.info(
            "%(name)s: %(parameters)d parameters, difference norm %(difference).4g, share %(share).2e", part
        )
    return _fold(found, differences, fold)


def by_module(differences: "pd.DataFrame") -> "pd.DataFrame":
    """The differences with modules as groups, where layers have both; tensors in the order of the modules."""
    owners: dict[str, str] = {}
    for group, tensors in differences.groupby("group", sort=False)["tensor"]:
        for module, names in modules(str(group), list(tensors)).items():
            owners |= dict.fromkeys(names, module)
    import pandas as pd  # here, not above: proposals can do without

    order = pd.Categorical(differences["tensor"], list(owners))
    return differences.assign(group=differences["tensor"].map(owners)).iloc[order.argsort()]


def _block_name(block: range, layers: Sequence[str]) -> str:
    """As in `layers 0-2`; of one alone `layer 3`, or `layer 3 mlp`."""
    if len(block) > 1:
        return f"layers {block[0]}-{block[-1]}"
    return layers[block[0]].replace("layers.", "layer ").replace(".", " ")


def _part(name: str, groups: list[str], differences: "pd.DataFrame") -> dict[str, Any]:
    members = differences[differences["group"].isin(groups)]
    difference = math.sqrt((members["l2"] ** 2).sum())
    return {
        "name": name,
        "groups": groups,
        "sizes": [int(members.loc[members["group"] == group, "parameters"].sum()) for group in groups],
        "parameters": int(members["parameters"].sum()),
        "difference": difference,
        "share": difference / math.sqrt((differences["l2"] ** 2).sum()),
    }


def _fold(found: list[dict[str, Any]], differences: "pd.DataFrame", fold: bool) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for part in found:
        small = part["share"] < LEAST_SHARE
        if small:
            log.warning(
                "%s moves %.3f %% of the difference norm, less than %.1f %%: %s",
                part["name"], 100 * part["share"], 100 * LEAST_SHARE,
                "folded into its neighbour" if fold else "its weight hardly changes the model",
            )  # fmt: skip
        # A first part too small to stand alone takes the next one in.
        if fold and kept and (small or kept[-1]["share"] < LEAST_SHARE):
            before = kept.pop()
            name = f"{before['name']} + {part['name']}"
            part = _part(name, [*before["groups"], *part["groups"]], differences)
        kept.append(part)
    return kept


# ---------------------------------------------------------------------------------------------------- variables

WEIGHT = "weight"


def variables(
    parts: Sequence[Mapping[str, Any]], sources: Sequence[str], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Variables of a search with these settings: of each part in turn, weights first.

    Beside the part's own keys, `sets` says what a variable sets: "weight", with the `source` whose it is, or a
    parameter, with its `min` and `max`.
    """
    found = []
    for part in parts:
        for place, source in enumerate(sources[:-1]):
            name = weight_name(part["name"], sources, place)
            found.append({**part, "name": name, "sets": WEIGHT, "source": source})
        for name in PARAMETERS:
            if isinstance(span := settings.get(name), Mapping):
                found.append({**part, "name": f"{part['name']}: {name}", "sets": name, **span})
    return found


def weight_name(part: str, sources: Sequence[str], place: int) -> str:
    """What a source's weight in a part is called: by the part alone where there are two sources."""
    if len(sources) == 2:
        return part
    return f"{part}: {sources[place]}{' (of the rest)' if place else ''}"


def sets(variable: Mapping[str, Any]) -> str:
    """What a variable sets: "weight", or a parameter's name."""
    return variable.get("sets", WEIGHT)  # not said by earlier checkouts, which knew nothing else


def places(variables: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """For each variable the place of the source whose weight it sets; None for a parameter."""
    seen: dict[str, int] = {}
    found: list[int | None] = []
    for variable in variables:
        group = variable["groups"][0]
        if sets(variable) == WEIGHT:
            found.append(seen.get(group, 0))
            seen[group] = seen.get(group, 0) + 1
        else:
            found.append(None)
    return found


def importance(variables: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
    """Importance of each variable [D], in (0, 1]; None where the search asks for none."""
    if any("importance" not in variable for variable in variables):
        return None
    return np.array([variable["importance"] for variable in variables])


def weights(variables: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """Which variables are weights [D]; the others are parameters."""
    return np.array([sets(variable) == WEIGHT for variable in variables])


def n_sources(variables: Sequence[Mapping[str, Any]]) -> int:
    return 2 + max(place for place in places(variables) if place is not None)


def natural(x: Sequence[float], variables: Sequence[Mapping[str, Any]]) -> list[float]:
    """A point as it is shown: weights as they are, parameters between their min and max."""
    return [
        round(variable["min"] + value * (variable["max"] - variable["min"]), DECIMALS)
        if "min" in variable
        else value
        for value, variable in zip(x, variables, strict=True)
    ]


def unit(values: NDArray[np.float64], variables: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """The points [n x D] of what `natural` gave."""
    low = np.array([variable.get("min", 0.0) for variable in variables])
    high = np.array([variable.get("max", 1.0) for variable in variables])
    return (values - low) / (high - low)


def expand(x: Sequence[float], variables: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Merge:
    """The merge that a point x (shape [D], one value a variable) stands for, with the method of the settings."""
    weights: dict[str, list[float]] = {}
    left: dict[str, float] = {}
    parameters: dict[str, dict[str, float]] = {}
    for value, variable in zip(natural(x, variables), variables, strict=True):
        for group in variable["groups"]:
            if sets(variable) == WEIGHT:
                weights.setdefault(group, []).append(float(value * left.get(group, 1.0)))
                left[group] = float((1 - value) * left.get(group, 1.0))
            else:
                parameters.setdefault(sets(variable), {})[group] = value
    for name in METHODS[settings["method"]].parameters:
        parameters.setdefault(name, dict.fromkeys(weights, settings[name]))
    weights = {group: [*own, left[group]] for group, own in weights.items()}
    return Merge(weights, settings["method"], parameters, settings.get("rescale", "papers"))


# ------------------------------------------------------------------------------------------------------- points


def fractions(weights: Sequence[float]) -> list[float]:
    """The values of a part's variables that give these weights [sources]: one fewer."""
    found, left = [], 1.0
    for weight in weights[:-1]:
        found.append(weight / left if left > 0 else 0.0)
        left -= weight
    return found


def everywhere(weights: Sequence[float], variables: Sequence[Mapping[str, Any]]) -> list[float]:
    """The point with the same weights [sources] in every part, and parameters in the middle of their range."""
    values = fractions(weights)
    return [0.5 if place is None else values[place] for place in places(variables)]


def projected(
    x: Sequence[float],
    coarser: Sequence[Mapping[str, Any]],
    variables: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> list[float]:
    """The point over `variables` of the merge that a point x over `coarser` variables stands for.

    Each variable takes the value that its tensors have there: the same merge, where no variable spans tensors of
    several values. One that does takes their mean, weighted by parameters. settings: of either search, which have the
    same method.
    """
    merge, found = expand(x, coarser, settings), list[float]()
    for variable, place in zip(variables, places(variables), strict=True):
        own = [group if group in merge.weights else without_module(group) for group in variable["groups"]]
        if place is None:
            values = [merge.parameters[sets(variable)][group] for group in own]
            mean = np.average(values, weights=variable["sizes"])
            found.append(float(mean - variable["min"]) / (variable["max"] - variable["min"]))
        else:
            rows = np.average([merge.weights[group] for group in own], axis=0, weights=variable["sizes"])
            found.append(fractions(rows.tolist())[place])
    return tidied(np.array([found]), variables)[0].tolist()


def alone(place: int, count: int) -> list[float]:
    """Weights of `count` sources: all for one of them."""
    return [float(other == place) for other in range(count)]


def end_points(
    variables: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    base_source: int | None,
) -> dict[int, list[float]]:
    """The points that are a source alone, by its place: not every method has every source in its space."""
    count, found = n_sources(variables), {}
    for place in range(count):
        point = everywhere(alone(place, count), variables)
        merge = simplest(expand(point, variables, settings), base_source)
        if merge.method == "linear":
            found[place] = point
    return found


def spread(U: NDArray[np.float64], variables: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Points [n x D] whose weights are uniform on the simplex, from ones that are uniform on the cube.

    The k-th of N weights takes of what is left x_k = 1 - (1 - u_k)^(1 / (N - k)), as the smallest of N - k uniform
    cuts of it does.
    """
    X, count = U.copy(), n_sources(variables)
    for column, place in enumerate(places(variables)):
        if place is not None and (others := count - 1 - place) > 1:
            X[:, column] = 1 - (1 - U[:, column]) ** (1 / others)
    return X


def tidied(X: NDArray[np.float64], variables: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Points [n x D] to 6 decimals, with 0 for what is a share of nothing: equal merges are equal points."""
    X, nothing = rounded(X), np.zeros(len(X), dtype=bool)
    for column, place in enumerate(places(variables)):
        if place is None:
            continue
        nothing &= place > 0  # a part begins with its first source
        X[nothing, column] = 0.0
        nothing |= X[:, column] == 1
    return X


def rounded(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """X within [0, 1], to the 6 decimals that make a candidate's identity; never -0."""
    return np.clip(X, 0.0, 1.0).round(DECIMALS) + 0.0
