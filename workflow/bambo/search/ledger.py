"""The decisions of a search: read from its files, made once, and never made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..objectives import Evaluation, evaluate
from ..pareto import hypervolume
from ..records import read_record
from ..run import Run
from ..space import expand, importance, tidied
from .ask import ask
from .design import initial
from .stopping import stalled
from .study import Study


@dataclass(frozen=True)
class Ledger:
    """What a search knows before a decision.

    asked: every point asked for [t x D]; X: those that were scored [n x D]; values: their objectives;
    ids, iterations: of the scored ones, in the order in which they were asked for; failed: ids without a score.
    """

    asked: NDArray[np.float64]
    X: NDArray[np.float64]
    values: Evaluation
    ids: list[str]
    iterations: list[int]
    failed: list[str]

    def hypervolumes(self, reference: Sequence[float]) -> list[float]:
        """Hypervolume after the initial design and after each iteration."""
        last = max(self.iterations, default=-1)
        rows = np.array(self.iterations)
        return [hypervolume(self.values.Y[rows <= t], reference) for t in range(last + 1)]


def proposal_path(run: Run, search: str, iteration: int) -> Path:
    return run.folder / "search" / search / "proposals" / f"t{iteration:03d}.json"


def read_ledger(
    run: Run,
    search: str,
    iterations: int,
    dimension: int,
    normalisation: Mapping[str, Any],
    noise_share: float,
) -> Ledger:
    """What the first `iterations` proposals of a search over `dimension` variables asked for, and what came of it."""
    proposals = [read_record(proposal_path(run, search, t), "proposal") for t in range(iterations)]
    asked = [
        (id, point, proposal["iteration"])
        for proposal in proposals
        for id, point in zip(proposal["candidates"], proposal["variables"], strict=True)
    ]
    scores = {id: run.scores(id) for id, _, _ in asked}
    scored = [row for row in asked if scores[row[0]]["status"] == "ok"]
    return Ledger(
        asked=np.array([point for _, point, _ in asked]).reshape(-1, dimension),
        X=np.array([point for _, point, _ in scored]).reshape(-1, dimension),
        values=evaluate([scores[id] for id, _, _ in scored], normalisation, noise_share),
        ids=[id for id, _, _ in scored],
        iterations=[iteration for _, _, iteration in scored],
        failed=[id for id, _, _ in asked if scores[id]["status"] != "ok"],
    )


def decide(
    run: Run,
    search: str,
    iteration: int,
    *,
    settings: Mapping[str, Any],
    settings_hash: str,
    variables: Sequence[dict[str, Any]],
    normalisation: Mapping[str, Any],
    reference: Sequence[float],
    candidates_per_job: int = 1,
) -> dict[str, Any]:
    """The proposal of one iteration, with everything that it saw; the recipes of its candidates are written.

    Iteration 0 is the initial design; a later one fits the surrogate to all that was scored. `stop` is "budget"
    where `evaluations` is used up, "hypervolume" where the stop rule of the settings holds, else null. `jobs` names the
    candidates that one job scores, where several do. Equal files and settings give an equal proposal.
    """
    ledger = read_ledger(run, search, iteration, len(variables), normalisation, settings["noise_share"])
    size = _size(settings, iteration, len(ledger.asked))
    seed = int(np.random.SeedSequence([settings["seed"], iteration]).generate_state(1)[0])
    stop = None
    if size == 0:
        stop = "budget"
    elif iteration > 0 and settings["stop"] and stalled(ledger.hypervolumes(reference), **settings["stop"]):
        stop = "hypervolume"

    info: dict[str, Any] = {"surrogate": None, "acquisition_value": None, "replaced": 0}
    points, origins = np.empty((0, len(variables))), list[str]()
    if iteration == 0:
        points, origins = initial(settings, variables, list(run.sources), size)
    elif stop is None:
        study = Study(
            X=ledger.X,
            Y=ledger.values.Y,
            variance=ledger.values.repeat_variance,
            asked=ledger.asked,
            pending=ledger.asked[:0],
            reference=np.asarray(reference, dtype=np.float64),
            names=list(normalisation["objectives"]),
            tidy=lambda X: tidied(X, variables),
            importance=importance(variables),
        )
        points, info = ask(study, size, settings, seed)
        origins = ["acquisition"] * len(points)

    ids = [run.add(run.recipe(expand(point, variables, settings))) for point in points.tolist()]
    end_points = {
        spec[f"{end}_id"] for spec in normalisation["objectives"].values() for end in ("expert", "base")
    }
    jobs = shared([id for id in ids if id not in end_points], candidates_per_job)
    return {
        "search": search,
        "iteration": iteration,
        "settings_hash": settings_hash,
        "iterations": settings["iterations"],
        "seed": seed,
        "stop": stop,
        "candidates": ids,
        "jobs": {run.add_job(job): job for job in jobs},
        "variables": points.tolist(),
        "origin": origins,
        "observed": ledger.ids,
        "pending": [],
        "failed": ledger.failed,
        **info,
        "versions": {name: version(name) for name in ("torch", "botorch", "gpytorch", "numpy", "scipy")},
    }


def shared(ids: Sequence[str], candidates_per_job: int) -> list[list[str]]:
    """The ids in as few and as equal jobs as there can be of at most so many; none where each has a job of its own."""
    if candidates_per_job == 1 or len(ids) < 2:
        return []
    count = ceil(len(ids) / candidates_per_job)
    jobs = [list(ids[place::count]) for place in range(count)]
    return [job for job in jobs if len(job) > 1]


def _size(settings: Mapping[str, Any], iteration: int, asked: int) -> int:
    """How many candidates an iteration may ask for: a batch, cut where `evaluations` ends."""
    size = settings["n_initial"] if iteration == 0 else settings["batch_size"]
    return size if settings["evaluations"] is None else max(0, min(size, settings["evaluations"] - asked))
