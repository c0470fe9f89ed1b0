"""One decision, as a function of what was seen: nothing is read here, so a recorded decision can be made anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..objectives import Evaluation
from ..pareto import hypervolume
from ..space import importance, spread, tidied, weights
from .ask import ask
from .design import Start, initial, warm_start
from .stopping import planned_evaluations, stalled
from .study import Points, Study

OBSERVED, PENDING, FAILED, LEFT = "observed", "pending", "failed", "left"
LEAST = 2  # observations to which a surrogate is fitted
# An objective of one search's own: what it is called, and its reference where the others' are fixed, a tenth beyond the
# farthest source as theirs are a tenth below the base.
SPARSITY, DENSEST = "sparsity of the task vector", -1.1


@dataclass(frozen=True)
class Seen:
    """What a decision goes by, beside settings and variables.

    iteration: its number; ids, points [t x D], iterations, states: of every candidate asked for before, in that order,
    with the iteration that asked for it; values: objectives of the observed ones [n x m], in their order; left: what
    the first questions say of those that were left after them, likewise; ended: an earlier decision ended the search
    under this budget; start: what the search took over from a coarser one; sparsity: of every candidate [t], as
    `merging.sparsity` has it, where that is an objective.
    """

    iteration: int
    ids: Sequence[str]
    points: Points
    iterations: Sequence[int]
    states: Sequence[str]
    values: Evaluation
    left: Evaluation | None = None
    ended: bool = False
    start: Start | None = None
    sparsity: Sequence[float] = ()

    def of(self, state: str) -> list[str]:
        """Ids of the candidates in a state."""
        return [id for id, own in zip(self.ids, self.states, strict=True) if own == state]

    def points_of(self, state: str) -> Points:
        """Points [. x D] of the candidates in a state."""
        return self.points[np.array(self.states, dtype=str) == state]

    @property
    def observed_iterations(self) -> list[int]:
        return [t for t, own in zip(self.iterations, self.states, strict=True) if own == OBSERVED]


@dataclass(frozen=True)
class Decision:
    """What is asked for next: points [q x D] and their origins; or why nothing is. info: what led to it."""

    seed: int
    stop: str | None
    points: Points
    origins: list[str] = field(default_factory=list)
    info: dict[str, Any] = field(
        default_factory=lambda: {"surrogate": None, "acquisition_value": None, "replaced": 0}
    )


def decide(
    seen: Seen,
    settings: Mapping[str, Any],
    variables: Sequence[dict[str, Any]],
    sources: Sequence[str],
    objectives: Sequence[str],
    reference: Sequence[float],
) -> Decision:
    """The next decision of a search.

    Synchronous: iteration 0 is the initial design; a later one a batch that the optimiser proposes from all that was
    scored. Asynchronous: one candidate, the next of the initial design or, once all of that is handed out, what the
    optimiser proposes from what is scored so far and what is under way; while that is too little, one more random
    point. `stop` is "budget" where that is used up, "hypervolume" where the stop rule holds, else None. Equal arguments
    give an equal decision.
    """
    seed = int(np.random.SeedSequence([settings["seed"], seen.iteration]).generate_state(1)[0])
    size = _size(settings, seen)
    if size == 0 or _is_over(seen, settings, reference):
        return Decision(seed, "hypervolume" if size else "budget", seen.points[:0])
    # Where a decision was lost, its number is free again, and its place in the design with it.
    place = seen.iteration if settings["schedule"] == "async" else len(seen.ids)
    if place < settings["n_initial"]:
        return _of_design(
            seed, place, size, *initial(settings, variables, sources, settings["n_initial"], seen.start)
        )
    if seen.states.count(OBSERVED) < LEAST:
        # A longer initial design begins with the shorter one; where that is a grid, there is no longer one.
        return _of_design(seed, place, size, *warm_start(variables, sources, place + size, settings["seed"]))
    X, Y, variance = seen.points_of(OBSERVED), seen.values.Y, seen.values.repeat_variance
    asked, start = seen.points, seen.start
    if seen.left is not None:
        X = np.concatenate([X, seen.points_of(LEFT)])
        Y = np.concatenate([Y, seen.left.Y])
        variance = np.concatenate([variance, seen.left.repeat_variance])
    if start is not None:
        further = [id not in seen.ids for id in start.ids]
        X = np.concatenate([start.X[further], X])
        Y = np.concatenate([start.values.Y[further], Y])
        variance = np.concatenate([start.values.repeat_variance[further], variance])
        asked = np.concatenate([start.X[further], asked])
    names, corner = list(objectives), np.asarray(reference, dtype=np.float64)
    if settings["sparsity"]:
        own = [
            value
            for state in (OBSERVED, LEFT)
            for value, theirs in zip(seen.sparsity, seen.states, strict=True)
            if theirs == state
        ]
        Y, variance = np.column_stack([Y, own]), np.column_stack([variance, np.zeros(len(own))])
        names, corner = [*names, SPARSITY], np.append(corner, DENSEST)
    study = Study(
        X=X,
        Y=Y,
        variance=variance,
        asked=asked,
        pending=seen.points_of(PENDING),
        reference=corner,
        names=names,
        tidy=lambda X: tidied(X, variables),
        importance=importance(variables),
        weights=weights(variables),
        bounds=None if start is None else start.bounds,
        spread=lambda U: spread(U, variables),
    )
    points, info = ask(study, size, settings, seed)
    return Decision(seed, None, points, ["acquisition"] * len(points), info)


def _of_design(seed: int, place: int, size: int, points: Points, origins: list[str]) -> Decision:
    return Decision(seed, None, points[place : place + size], origins[place : place + size])


def _size(settings: Mapping[str, Any], seen: Seen) -> int:
    """How many candidates may be asked for: one, or a batch, cut where the budget ends."""
    asked = len(seen.ids)
    if settings["schedule"] == "async":
        return int(asked < planned_evaluations(settings))
    size = settings["n_initial"] if seen.iteration == 0 else settings["batch_size"]
    return size if settings["evaluations"] is None else max(0, min(size, settings["evaluations"] - asked))


def _is_over(seen: Seen, settings: Mapping[str, Any], reference: Sequence[float]) -> bool:
    """Whether the stop rule holds. Where candidates come one by one, each that was observed is an iteration."""
    if not settings["stop"] or seen.iteration == 0:
        return False
    rows = np.array(seen.observed_iterations)
    if settings["schedule"] == "async":
        if seen.ended:
            return True
        ends = list(range(int(np.sum(rows < settings["n_initial"])), len(rows) + 1))
    else:
        ends = [int(np.sum(rows <= t)) for t in range(max(rows, default=-1) + 1)]
    last = ends[-1 - settings["stop"]["iterations"] :]
    return stalled([hypervolume(seen.values.Y[:end], reference) for end in last], **settings["stop"])
