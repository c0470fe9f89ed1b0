"""How a run stands, from its files alone: while it goes on, after it, and after a kill."""

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from textwrap import shorten, wrap
from typing import Any, NamedTuple

from ..candidate.attempts import Attempts, Failure
from ..candidate.folder import SCORES, all_folders, read_scores
from ..candidate.lease import holder
from ..candidate.work import SIMULATED
from ..config import Config, iterations, load, search_settings
from ..confirm import confirm_ids
from ..endpoints import CANDIDATES as END_POINTS
from ..errors import BadInput
from ..files import read_json
from ..integrity import as_snakemake
from ..records import Damaged
from ..search.promotions import became, read_promotions
from ..search.proposals import Place, in_order, read_proposals
from ..smoke import smoke_ids
from ..start import read_start
from . import fronts, tables
from .summary import duration

# State of an evaluation -> its character in the map. Planned is what no proposal asked for yet.
MAP = {"done": "#", "running": ">", "failed": "x", "damaged": "!", "pending": ".", "planned": "-"}
OPEN = ("running", "pending", "planned")  # states that time is still needed for
PLANNED, UNKNOWN = "", "?"  # in the place of ids: no proposal yet, or one that cannot be read
Proposals = Mapping[Place, dict[str, Any] | None]
_WIDTH = 110  # columns of the terminal
_ROW = 80  # evaluations in a line


class State(NamedTuple):
    """How one candidate stands: a key of MAP, scores if done, failure if failed, and what failed attempts took."""

    name: str
    scores: dict[str, Any] | None = None
    failure: Failure | None = None
    lost_seconds: float = 0.0


def state(folder: Path, at_work: bool) -> State:
    """How a candidate stands. at_work: a process works on the run, so that a failed attempt is followed by others."""
    try:
        attempts = Attempts(folder)
    except FileNotFoundError:  # all went well, and the file was removed just now
        attempts = Attempts(folder)
    lost = attempts.lost_seconds
    try:
        scores = read_scores(folder)
        if scores["status"] == "ok":
            return State("done", scores, lost_seconds=lost)
        found = State("failed", None, Failure(scores["failure"], scores["reason"]), lost)
    except Damaged:
        found = State("damaged", lost_seconds=lost)
    except BadInput:  # no scores
        failure = attempts.last_try
        given_up = attempts.last_failure is None
        settled = failure is not None and (given_up or not at_work)
        found = State("failed" if settled else "pending", None, failure if settled else None, lost)
    return found if holder(folder) is None else State("running", lost_seconds=lost)


def states(run_dir: Path) -> dict[str, State]:
    """How all candidates of a run stand, by id; BadInput where no run was started there."""
    read_start(run_dir)
    at_work = holder(run_dir) is not None
    return {folder.name: state(folder, at_work) for folder in all_folders(run_dir)}


def failed(run_dir: Path, ids: Sequence[str] = ()) -> list[Path]:
    """scores.json of the failed candidates of a run, or of the named ones; the files need not be there.

    BadInput where a named candidate has not failed, or nothing has.
    """
    found = [id for id, each in states(run_dir).items() if each.name == "failed"]
    wrong = [id for id in ids if id not in found]
    if wrong:
        text = f"{run_dir}: found {', '.join(wrong)}, expected failed candidates"
        raise BadInput(f"{text}; `bambo failed {run_dir}` lists them")
    if not found:
        raise BadInput(f"{run_dir}: nothing has failed")
    return [run_dir / "candidates" / id / SCORES for id in dict.fromkeys(ids or found)]


def status_text(run_dir: Path) -> str:
    """The status of `results/<run>`, for a terminal; BadInput where no run was started there."""
    start = read_start(run_dir)
    config = load(start["config"])
    candidates = states(run_dir)
    ends = _read(run_dir / END_POINTS)
    smoke = smoke_ids(run_dir)
    confirming = confirm_ids(run_dir)
    rows = {"smoke run": {"": sorted(smoke)}} if smoke else {}
    rows |= (
        {"end points": {"": sorted({*ends["end_points"].values(), *ends["own_files"].values()})}}
        if ends
        else {}
    )
    proposals = {search: _proposals(run_dir, search) for search in config.searches}
    for search, made in proposals.items():
        settings, budget = search_settings(config, search), iterations(config, search)
        slotted = settings["schedule"] == "async"
        rows[search] = dict(_slots(made, budget) if slotted else _iterations(made, settings, budget))
    rows |= {"confirm": {"": sorted(confirming)}} if confirming else {}

    parts = [_heading(run_dir, start, config)]
    for name, ids in rows.items():
        volume = (
            _hypervolume(run_dir, name, proposals[name], candidates, config) if name in proposals else None
        )
        parts.append(_map(name, ids, candidates, volume))
    parts.append(["  ".join(f"{character} {name}" for name, character in MAP.items())])
    asked = [id for name, ids in rows.items() if name != "smoke run" for row in ids.values() for id in row]
    parts.append(_failures(candidates, start["command"], run_dir))
    if any(_name(id, candidates) == "damaged" for id in [*asked, *candidates]):
        parts.append([f"Damaged files: `{_program()} check {run_dir}` prints the command that repairs them"])
    # One that several searches ask for is evaluated once.
    left = [id for id in asked if id == PLANNED] + [
        id for id in {*asked} - {PLANNED} if _name(id, candidates) in OPEN
    ]
    parts.append(
        _cost(candidates, smoke | confirming, len(left), start["parallel"], config.resources.evaluate.gpu)
    )
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def print_status(run_dir: Path) -> None:
    print(status_text(run_dir))


def print_failed(run_dir: Path, ids: Sequence[str]) -> None:
    print(*as_snakemake(run_dir, failed(run_dir, ids)), sep="\n")


def _read(path: Path) -> Any:
    """A JSON file; None where it is not there yet, or damaged."""
    try:
        return read_json(path)
    except (BadInput, ValueError):
        return None


def _proposals(run_dir: Path, search: str) -> dict[Place, dict[str, Any] | None]:
    """The decisions of a search; a candidate that is asked all questions stands in the place of its first stage."""
    found = read_proposals(run_dir, search)
    wholes = became(in_order(found), read_promotions(run_dir, search).values())
    return {
        place: own and {**own, "candidates": [wholes.get(id, id) for id in own["candidates"]]}
        for place, own in found.items()
    }


def _heading(run_dir: Path, start: Mapping[str, Any], config: Config) -> list[str]:
    who = holder(run_dir)
    at_work = f"at work: {who}" if who else "no snakemake is at work on it"
    lines = [f"{run_dir}, last started {start['started']}; {at_work}"]
    if config.evaluation.engine == SIMULATED:
        lines.append("SIMULATED: all scores are made up (evaluation.engine: simulated)")
    return lines


def _slots(proposals: Proposals, budget: int) -> Iterator[tuple[str, list[str]]]:
    """Label and ids of each slot so far, then what none has asked for yet."""
    slots: dict[int, list[str]] = {}
    for place, proposal in proposals.items():
        slots.setdefault(place.slot, []).extend([UNKNOWN] if proposal is None else proposal["candidates"])
    for slot, ids in slots.items():
        yield f"slot {slot}", ids
    last = max(in_order(proposals), key=lambda each: each["iteration"], default=None)
    over = last is not None and last["stop"] and last["iterations"] >= budget
    left = budget - sum(map(len, slots.values()))
    if left > 0 and not over:
        yield "to come", [PLANNED] * left


def _iterations(made: Proposals, settings: Mapping[str, Any], budget: int) -> Iterator[tuple[str, list[str]]]:
    """Label and ids of each iteration of a budget, as far as the search goes (see `evaluated_within` of the rules)."""
    proposals = {place.step: proposal for place, proposal in made.items()}
    asked = 0
    for iteration in range(budget + 1):
        proposal = proposals.get(iteration)
        if proposal is not None:
            ids = proposal["candidates"]
        else:
            size = settings["n_initial"] if iteration == 0 else settings["batch_size"]
            left = size if settings["evaluations"] is None else settings["evaluations"] - asked
            ids = [UNKNOWN if iteration in proposals else PLANNED] * min(size, left)
        asked += len(ids)
        if ids:
            yield f"iteration {iteration}", ids
        if proposal is not None and proposal["stop"] and proposal["iterations"] >= budget:
            return


def _name(id: str, candidates: Mapping[str, State]) -> str:
    """The state of what a map shows; damaged, too, is a candidate whose proposal or recipe cannot be read."""
    if id == PLANNED:
        return "planned"
    return candidates[id].name if id in candidates else "damaged"


def _map(
    name: str, rows: Mapping[str, Sequence[str]], candidates: Mapping[str, State], hypervolume: float | None
) -> list[str]:
    counts = Counter(_name(id, candidates) for ids in rows.values() for id in ids)
    told = ", ".join(f"{counts[each]} {each}" for each in MAP if counts[each])
    lines = [f"{name}: {told}" + ("" if hypervolume is None else f"; hypervolume {hypervolume:.4f}")]
    width = max(map(len, rows))
    for label, ids in rows.items():
        characters = "".join(MAP[_name(id, candidates)] for id in ids)
        pieces = [characters[at : at + _ROW] for at in range(0, len(characters), _ROW)]
        for place, piece in enumerate(pieces):
            lines.append(f"  {'' if place else label:{width}}  {piece}" if width else f"  {piece}")
    return lines


def _hypervolume(
    run_dir: Path,
    search: str,
    proposals: Proposals,
    candidates: Mapping[str, State],
    config: Config,
) -> float | None:
    """The hypervolume of what a search has seen so far; None where that cannot be told yet."""
    variables = _read(run_dir / "search" / search / "variables.json")
    ends, scale = _read(run_dir / END_POINTS), _read(run_dir / "endpoints/normalisation.json")
    scores = {id: each.scores for id, each in candidates.items() if each.scores is not None}
    if not (variables and ends and scale and scores.keys() >= {*ends["end_points"].values()}):
        return None
    run = tables.Run(
        {search: variables["variables"]},
        {search: in_order(proposals)},
        scores,
        ends["end_points"],
        ends["own_files"],
        scale,
    )
    try:
        observations = tables.observations(run)
    except BadInput:  # of two devices, say: what the search itself will stop at
        return None
    if search not in tables.search_names(observations):
        return None
    course = fronts.hypervolume(observations, config.reference_point)
    return course.loc[course["search"] == search, "hypervolume"].to_list()[-1]


def _failures(candidates: Mapping[str, State], command: Sequence[str], run_dir: Path) -> list[str]:
    lines = []
    for id, each in candidates.items():
        if each.failure is not None:
            text = shorten(f"{each.failure.kind}: {each.failure.reason}", 4 * _WIDTH, placeholder=" ...")
            lines += wrap(f"{id}  {text}", _WIDTH, initial_indent="  ", subsequent_indent=" " * 16)
    if not lines:
        return []
    listed = shlex.join([_program(), "failed", str(run_dir)])
    return ["Failed", *lines, "This evaluates them again:", f"  {shlex.join(command)} --forcerun $({listed})"]


def _program() -> str:
    """What to call this command: as it was called where its name alone would not find it."""
    called = sys.argv[0]
    return "bambo" if shutil.which("bambo") or Path(called).name != "bambo" else called


def _cost(
    candidates: Mapping[str, State], beside: Collection[str], left: int, parallel: int, gpus: int
) -> list[str]:
    """What was spent, each candidate once, and what `left` evaluations will take; `beside` ones tell nothing of it."""
    done = [each.scores for each in candidates.values() if each.scores is not None]
    lost = sum(each.lost_seconds for each in candidates.values())
    on_gpus = any(scores["gpus"] for scores in done)
    what = "GPU hours" if on_gpus else "evaluation hours on the CPU" if done else "evaluation hours"
    each_takes = gpus if on_gpus else 1
    spent = sum(scores["seconds"] * (scores["gpus"] if on_gpus else 1) for scores in done) + lost * each_takes
    lines = [f"Spent: {spent / 3600:.2f} {what}"]
    if lost:
        lines[0] += f", {lost * each_takes / 3600:.2f} of them on attempts that failed"
    whole = [scores["seconds"] for scores in done if scores["id"] not in beside]
    if left and whole:
        seconds = median(whole)
        lines.append(
            f"Left: {left} evaluations of about {duration(seconds)}: {left * seconds * each_takes / 3600:.2f} {what}, "
            f"about {duration(left * seconds / min(parallel, left))} at {parallel} at a time"
        )
    elif left:
        lines.append(f"Left: {left} evaluations; how long one takes is known after the first")
    return lines
