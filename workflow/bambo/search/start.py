"""Hierarchical warm start: what a search takes over from a coarser one of the same run.

A candidate of the coarser search is a point of the finer space, too: each fine variable has the value of the coarse one
that covers its tensors. Its scores are known, so that it enters the finer surrogate without an evaluation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..candidate.folder import SCORES
from ..objectives import evaluate
from ..pareto import non_dominated, thinned
from ..run import Run
from ..space import expand, importance, projected, rounded, weights
from .design import Start
from .promotions import left_in, read_promotions, settled
from .proposals import in_order, read_proposals
from .study import Points

Variables = Sequence[Mapping[str, Any]]


class Coarser(NamedTuple):
    """The search that another one starts from."""

    name: str
    settings: Mapping[str, Any]
    variables: Variables


def take_over(
    run: Run, coarser: Coarser, normalisation: Mapping[str, Any], reference: Sequence[float]
) -> dict[str, Any]:
    """The record of what there is to take over: `search`; ids that are `observed`; those on the `front`, best first.

    The front is the coarser surrogate's, by posterior means, without the sources alone, of which every search knows.
    Best is what is left longest when the one that adds least to the hypervolume is dropped again and again.
    """
    # Here, not above: later proposals read the record, and need no surrogate for it.
    from .surrogate import posterior_front

    asked = _asked(run, coarser)
    # A search that goes on under a larger budget may have asked for more.
    done = [id for id in asked if (run.folder / "candidates" / id / SCORES).exists()]
    ids = [id for id in done if run.scores(id)["status"] == "ok"]
    X = _array([asked[id] for id in ids], len(coarser.variables))
    values = evaluate([run.scores(id) for id in ids], normalisation, coarser.settings["noise_share"])
    mean, *_ = posterior_front(
        X,
        values.Y,
        values.repeat_variance,
        values.stderr,
        coarser.settings,
        reference,
        importance=importance(coarser.variables),
        weights=weights(coarser.variables),
    )
    merges = [expand(point, coarser.variables, coarser.settings) for point in X.tolist()]
    rows = np.flatnonzero(non_dominated(mean))
    rows = np.array([row for row in rows if merges[row].only_source is None], dtype=int)
    return {
        "search": coarser.name,
        "observed": ids,
        "front": [ids[row] for row in rows[best_first(mean[rows], reference)]],
    }


def best_first(Y: NDArray[np.float64], reference: Sequence[float]) -> list[int]:
    """Rows of Y [n x m] in the contrary order of that in which `thinned` drops them."""
    order: list[int] = []
    for members in range(1, len(Y) + 1):
        order += [int(row) for row in thinned(Y, reference, members) if row not in order]
    return order


def read_start(
    run: Run,
    record: Mapping[str, Any],
    coarser: Coarser,
    variables: Variables,
    settings: Mapping[str, Any],
    normalisation: Mapping[str, Any],
) -> Start:
    """What a record of `take_over` stands for in the space of a finer search with these variables and settings.

    Only what is the same model there is an observation; the front may hold other ones, where blocks do not nest.
    """
    asked = _asked(run, coarser)
    points = {id: projected(asked[id], coarser.variables, variables, settings) for id in record["observed"]}
    ids = [id for id, point in points.items() if run.recipe(expand(point, variables, settings))["id"] == id]
    front = _array([points[id] for id in record["front"]], len(variables))
    return Start(
        ids=ids,
        X=_array([points[id] for id in ids], len(variables)),
        values=evaluate([run.scores(id) for id in ids], normalisation, settings["noise_share"]),
        front=front,
        bounds=box_around(front, settings["box"]),
    )


def box_around(front: Points, margin: float | None) -> Points | None:
    """Bounds [2 x D]: the range of a front [k x D] in each variable, and `margin` on both sides, if there are any."""
    if margin is None or not len(front):
        return None
    return rounded(np.array([front.min(axis=0) - margin, front.max(axis=0) + margin]))


def _asked(run: Run, coarser: Coarser) -> dict[str, list[float]]:
    """The points of the coarser search's candidates, in the order in which they were asked for.

    Without those that were left after the first questions.
    """
    promotions = list(read_promotions(run.folder, coarser.name).values())
    proposals = settled(in_order(read_proposals(run.folder, coarser.name)), promotions)
    left = left_in(promotions)
    return {
        id: point
        for proposal in proposals
        for id, point in zip(proposal["candidates"], proposal["variables"], strict=True)
        if id not in left
    }


def _array(points: list[list[float]], dimension: int) -> Points:
    return np.array(points, dtype=np.float64).reshape(-1, dimension)
