"""The decisions of a search: what they see is read from files, and what they ask for is written."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from math import ceil
from typing import Any

import numpy as np

from ..candidate.folder import SCORES, statistics_folder
from ..objectives import Evaluation, evaluate
from ..recipe import first_stage
from ..records import read_record
from ..run import Run
from ..space import expand
from .decision import FAILED, LEFT, OBSERVED, PENDING, Seen, decide
from .promotions import became, left_in, read_promotions
from .proposals import Place, in_order, iteration_key, place_of, proposal_path, read_proposals
from .start import Coarser, read_start, take_over
from .stopping import budget

PACKAGES = ("torch", "botorch", "gpytorch", "pymoo", "cma", "optuna", "numpy", "scipy")
# Settings that may change between the decisions of a search.
BUDGET = ("iterations", "evaluations", "stop")


def propose(
    run: Run,
    search: str,
    key: str,
    *,
    settings: Mapping[str, Any],
    settings_hash: str,
    variables: Sequence[dict[str, Any]],
    normalisation: Mapping[str, Any],
    reference: Sequence[float],
    candidates_per_job: int = 1,
    coarser: Coarser | None = None,
) -> dict[str, Any]:
    """The proposal under a key, with everything that it saw; the recipes of its candidates are written.

    See `decision.decide`. `jobs` names the candidates that one job scores, where several do; `sparsity` is that of each
    candidate, where it is an objective. coarser: the search that this one starts from; what the first proposal took
    over from it, later ones keep. Of an asynchronous search one process at a time may be at this, from here until the
    proposal is written. BadInput where the scores of an earlier iteration are missing.
    """
    place = place_of(key)
    seen = read_seen(run, search, place, len(variables), settings, normalisation)
    taken_over = {}
    if coarser is not None:
        taken_over["start"] = _taken_over(run, search, coarser, normalisation, reference)
        start = read_start(run, taken_over["start"], coarser, variables, settings, normalisation)
        seen = replace(seen, start=start)
    made = decide(seen, settings, variables, list(run.sources), list(normalisation["objectives"]), reference)

    points = made.points.tolist()
    recipes = [run.recipe(expand(point, variables, settings)) for point in points]
    ids, staged = (
        _first_stages(run, recipes) if settings["leave"] else ([run.add(each) for each in recipes], {})
    )
    end_points = {
        spec[f"{end}_id"] for spec in normalisation["objectives"].values() for end in ("expert", "base")
    }
    sparse = {}
    if settings["sparsity"]:
        from ..merging.sparsity import sparsity

        cache = statistics_folder(run.folder)
        sparse["sparsity"] = [sparsity(recipe, run.base, cache) for recipe in recipes]
    jobs = []
    if settings["schedule"] == "sync":
        jobs = shared([id for id in ids if id not in end_points], candidates_per_job)
    slotted = {} if place.slot < 0 else {"slot": place.slot, "step": place.step, "ended": seen.ended}
    return {
        "search": search,
        "iteration": seen.iteration,
        **slotted,
        "settings_hash": settings_hash,
        "iterations": _budget(settings),
        "budget": {name: settings[name] for name in BUDGET},
        "seed": made.seed,
        "stop": made.stop,
        "candidates": ids,
        "jobs": {run.add_job(job): job for job in jobs},
        "variables": points,
        **sparse,
        "origin": made.origins,
        "observed": seen.of(OBSERVED),
        "pending": seen.of(PENDING),
        "failed": seen.of(FAILED),
        **({"left": seen.of(LEFT)} if settings["leave"] else {}),
        **staged,
        **taken_over,
        **made.info,
        "versions": {name: version(name) for name in PACKAGES},
    }


def _first_stages(
    run: Run, recipes: Sequence[Mapping[str, Any]]
) -> tuple[list[str], dict[str, dict[str, str]]]:
    """What is asked for of candidates that are asked the first questions first, and `whole`: first stage -> candidate.

    What has all scores, an end point for one, needs no first stage.
    """
    ids, wholes = [], {}
    for recipe in recipes:
        if (run.folder / "candidates" / recipe["id"] / SCORES).exists():
            ids.append(recipe["id"])
        else:
            ids.append(run.add(first_stage(recipe)))
            wholes[ids[-1]] = recipe["id"]
    return ids, {"whole": wholes}


def _taken_over(
    run: Run,
    search: str,
    coarser: Coarser,
    normalisation: Mapping[str, Any],
    reference: Sequence[float],
) -> dict[str, Any]:
    """What an earlier proposal took over from the coarser search, or what there is to take over now."""
    made = in_order(read_proposals(run.folder, search))
    records = [proposal["start"] for proposal in made if "start" in proposal]
    return records[0] if records else take_over(run, coarser, normalisation, reference)


def _budget(settings: Mapping[str, Any]) -> int:
    """The budget under which a decision is made: where it stopped the search, a larger one passes over it."""
    return budget(settings) if settings["schedule"] == "async" else settings["iterations"]


def read_seen(
    run: Run,
    search: str,
    place: Place,
    dimension: int,
    settings: Mapping[str, Any],
    normalisation: Mapping[str, Any],
) -> Seen:
    """What the files of a run hold for the decision at a place, over `dimension` variables.

    That is what all iterations before asked for, and what came of it; where slots go on by themselves, what all other
    decisions asked for, scored or not.
    """
    if place.slot < 0:
        paths = [proposal_path(run.folder, search, iteration_key(t)) for t in range(place.step)]
        proposals = [read_record(path, "proposal") for path in paths]
        read = read_promotions(run.folder, search)
        promotions = [record for other, record in read.items() if other.step < place.step]
        ids = [id for each in [*proposals, *promotions] for id in each["candidates"]]
        scores = {id: run.scores(id) for id in ids}
        return see(place.step, proposals, scores, dimension, settings, normalisation, promotions=promotions)
    made = {other: each for other, each in read_proposals(run.folder, search).items() if other != place}
    for other, each in made.items():
        if each is None:
            print(f"{search}: {other.key} is damaged, and passed over", file=sys.stderr, flush=True)
    proposals = in_order(made)
    asking = [proposal for proposal in proposals if proposal["candidates"]]
    promotions = list(read_promotions(run.folder, search).values())
    asked = [id for each in [*asking, *promotions] for id in each["candidates"]]
    folders = {id: run.folder / "candidates" / id for id in asked}
    scores = {id: run.scores(id) for id, folder in folders.items() if (folder / SCORES).exists()}
    taken = {proposal["iteration"] for proposal in asking}
    # The first that is free: all before are taken, unless a damaged decision was removed.
    iteration = next(number for number in range(len(taken) + 1) if number not in taken)
    ended = any(
        proposal["stop"] == "hypervolume" and proposal["iterations"] == _budget(settings)
        for proposal in proposals
    )
    return see(iteration, asking, scores, dimension, settings, normalisation, ended, promotions)


def see(
    iteration: int,
    proposals: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, Any]],
    dimension: int,
    settings: Mapping[str, Any],
    normalisation: Mapping[str, Any],
    ended: bool = False,
    promotions: Sequence[Mapping[str, Any]] = (),
) -> Seen:
    """What `proposals`, in their order, asked for, and what came of it: candidates without scores are under way.

    A first stage that was promoted has the scores of the candidate that it became.
    """
    rows = [
        (id, point, proposal["iteration"])
        for proposal in proposals
        for id, point in zip(proposal["candidates"], proposal["variables"], strict=True)
    ]
    wholes = became(proposals, promotions)
    waiting = {id for proposal in proposals for id in proposal.get("whole", {})} - wholes.keys()
    left = left_in(promotions)
    found = {id: scores.get(wholes.get(id, id)) for id, _, _ in rows}
    states = [_state(found[id], id in waiting, id in left) for id, _, _ in rows]
    ids = [id for id, _, _ in rows]
    observed = [
        scores[wholes.get(id, id)] for id, state in zip(ids, states, strict=True) if state == OBSERVED
    ]
    return Seen(
        iteration=iteration,
        ids=ids,
        points=np.array([point for _, point, _ in rows], dtype=np.float64).reshape(-1, dimension),
        iterations=[number for _, _, number in rows],
        states=states,
        values=evaluate(observed, normalisation, settings["noise_share"]),
        left=_estimates([left[id] for id, state in zip(ids, states, strict=True) if state == LEFT]),
        ended=ended,
        sparsity=[own for proposal in proposals for own in proposal.get("sparsity", [])],
    )


def _state(scores: Mapping[str, Any] | None, first_alone: bool, left: bool) -> str:
    """first_alone: the scores are those of a first stage, after which nothing is decided yet, or that it is left."""
    if left:
        return LEFT
    if scores is not None and scores["status"] != "ok":
        return FAILED
    return PENDING if scores is None or first_alone else OBSERVED


def _estimates(left: Sequence[Mapping[str, Any]]) -> Evaluation | None:
    if not left:
        return None
    Y, variance = (
        np.array([each[key] for each in left], dtype=np.float64) for key in ("objectives", "variance")
    )
    return Evaluation(Y, np.sqrt(variance), variance)


def shared(ids: Sequence[str], candidates_per_job: int) -> list[list[str]]:
    """The ids in as few and as equal jobs as there can be of at most so many; none where each has a job of its own."""
    if candidates_per_job == 1 or len(ids) < 2:
        return []
    count = ceil(len(ids) / candidates_per_job)
    jobs = [list(ids[place::count]) for place in range(count)]
    return [job for job in jobs if len(job) > 1]
