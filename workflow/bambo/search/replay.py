"""Recorded decisions made anew: from what each recorded to have seen, the same candidates must follow.

Nothing but what a proposal names is looked at: scores that came later, or were repaired since, make no difference.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Config, check_unchanged, load, search_settings, search_tables
from ..errors import BadInput
from ..files import read_json
from ..run import Run
from ..space import expand
from ..start import read_start as read_record_of_start
from .decision import decide
from .ledger import see
from .promotions import again, became, read_promotions
from .proposals import Place, in_order, key_of, read_proposals
from .start import Coarser, read_start


@dataclass
class Replayed:
    """How many decisions of a search were made anew, and what the others are: key -> why they differ."""

    search: str
    equal: int = 0
    differing: dict[str, str] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)  # of packages, where they were others

    def __str__(self) -> str:
        count = self.equal + len(self.differing)
        text = f"{self.search}: {count} {'decision' if count == 1 else 'decisions'}"
        text += f", {self.equal} equal, {len(self.differing)} not equal"
        if self.differing:
            key, why = next(iter(self.differing.items()))
            text += f"; first {key}: {why}"
        if self.versions:
            text += f" (made with {', '.join(sorted(self.versions))})"
        return text


def replay(run_dir: Path, only: str | None = None) -> Iterator[Replayed]:
    """Make all recorded decisions of a run anew, those of one search after another's.

    BadInput where the run was not started from this folder, its settings are not those that the searches are tied to,
    or there is no such search.
    """
    config = load(read_record_of_start(run_dir)["config"])
    if run_dir.resolve() != config.folder.resolve():
        text = f"{run_dir}: expected {config.folder} in the working directory, by which the run's files name each other"
        raise BadInput(f"{text}; change to the folder that the run was started in")
    if only is not None and only not in config.searches:
        raise BadInput(f"--search: found {only}, expected one of {', '.join(config.searches)}; correct it")
    run = Run.open(config)
    for search in [only] if only is not None else config.searches:
        yield _replay(run, config, search)


def _replay(run: Run, config: Config, search: str) -> Replayed:
    stored = _variables(run, search)
    tied = {key: value for key, value in stored["settings"].items() if key.startswith(f"searches.{search}.")}
    check_unchanged(f"searches.{search}", tied, search_tables(config, search))
    settings, coarser = search_settings(config, search), None
    if settings["start_from"] is not None:
        name = settings["start_from"]
        coarser = Coarser(name, search_settings(config, name), _variables(run, name)["variables"])
    normalisation = read_json(run.folder / "endpoints" / "normalisation.json")
    found = Replayed(search)
    read = read_proposals(run.folder, search)
    for place, each in read.items():
        if each is None:
            found.differing[place.key] = "damaged"
    proposals, promotions = in_order(read), read_promotions(run.folder, search)
    _replay_promotions(run, found, read, promotions, settings, normalisation)
    for proposal in proposals:
        own = {**settings, **proposal.get("budget", {})}
        seen = _asked_before(proposal, proposals)
        outcomes = _outcomes(proposal, seen, list(promotions.values()))
        lost = _lost(run, outcomes, proposal, seen)
        if lost:
            found.differing[key_of(proposal)] = f"what it saw of {lost} is gone"
            continue
        today = _again(
            run, config, proposal, seen, outcomes, own, stored["variables"], normalisation, coarser
        )
        wholes = proposal.get("whole", {})
        kept = [
            proposal["stop"],
            proposal["variables"],
            [wholes.get(id, id) for id in proposal["candidates"]],
        ]
        if today == kept:
            found.equal += 1
        else:
            found.differing[key_of(proposal)] = _difference(today, kept)
            found.versions |= {
                f"{name} {was}" for name, was in proposal["versions"].items() if was != version(name)
            }
    return found


class Outcomes(NamedTuple):
    """What a proposal knew of first stages: what became of them, and the records without what came later."""

    became: dict[str, str]
    promotions: list[dict[str, Any]]


def _outcomes(
    proposal: Mapping[str, Any],
    seen: Sequence[Mapping[str, Any]],
    promotions: Sequence[Mapping[str, Any]],
) -> Outcomes:
    known = proposal.get("left", [])
    records = [
        {**record, "left": {id: own for id, own in record["left"].items() if id in known}}
        for record in promotions
    ]
    return Outcomes(became(seen, promotions), records)


def _replay_promotions(
    run: Run,
    found: Replayed,
    proposals: Mapping[Place, Mapping[str, Any] | None],
    promotions: Mapping[Place, Mapping[str, Any]],
    settings: Mapping[str, Any],
    normalisation: Mapping[str, Any],
) -> None:
    """Decide anew which candidates were asked all questions."""
    for place, record in promotions.items():
        proposal = proposals.get(place)
        if proposal is None:
            continue
        try:
            made = again(run, record, proposal, settings, normalisation)
        except BadInput as error:
            found.differing[f"promotion {place.key}"] = str(error)
            continue
        if made["candidates"] == record["candidates"] and list(made["left"]) == list(record["left"]):
            found.equal += 1
        else:
            now, before = (", ".join(each["candidates"]) or "nothing" for each in (made, record))
            found.differing[f"promotion {place.key}"] = f"{now}, recorded {before}"


def _variables(run: Run, search: str) -> dict[str, Any]:
    record: dict[str, Any] = read_json(run.folder / "search" / search / "variables.json")
    return record


def _asked_before(
    proposal: Mapping[str, Any], proposals: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The other proposals whose candidates it saw, in order."""
    earlier = [each for each in proposals if each["iteration"] < proposal["iteration"]]
    # One that was lost and decided anew has its old number, and saw what has later ones.
    saw = {*proposal["observed"], *proposal["pending"], *proposal["failed"], *proposal.get("left", [])}
    saw -= {id for each in earlier for id in each["candidates"]}
    later = [each for each in proposals if each["iteration"] > proposal["iteration"]]
    return earlier + [each for each in later if saw.intersection(each["candidates"])]


def _lost(
    run: Run, outcomes: Outcomes, proposal: Mapping[str, Any], seen: Sequence[Mapping[str, Any]]
) -> str | None:
    """The first candidate that it saw of which the point, or the scores, are not there any more."""
    asked = {id for each in seen for id in each["candidates"]}
    for id in [*proposal["observed"], *proposal["pending"], *proposal["failed"]]:
        if id not in asked:
            return str(id)
    for id in proposal["observed"]:
        try:
            if run.scores(outcomes.became.get(id, id))["status"] != "ok":
                return str(id)
        except BadInput:
            return str(id)
    return None


def _again(
    run: Run,
    config: Config,
    proposal: Mapping[str, Any],
    seen: Sequence[Mapping[str, Any]],
    outcomes: Outcomes,
    settings: Mapping[str, Any],
    variables: Sequence[dict[str, Any]],
    normalisation: Mapping[str, Any],
    coarser: Coarser | None,
) -> list[Any]:
    """Why the search stops, points and candidates, as they are decided today."""
    observed, failed = (
        [outcomes.became.get(id, id) for id in proposal[state]] for state in ("observed", "failed")
    )
    scores: dict[str, Mapping[str, Any]] = {id: run.scores(id) for id in observed}
    scores |= {id: {"status": "failed"} for id in failed}
    view = see(
        proposal["iteration"],
        seen,
        scores,
        len(variables),
        settings,
        normalisation,
        proposal.get("ended", False),
        outcomes.promotions,
    )
    if coarser is not None and proposal.get("start") is not None:
        start = read_start(run, proposal["start"], coarser, variables, settings, normalisation)
        view = with_changes(view, start=start)
    sources, objectives = list(run.sources), list(normalisation["objectives"])
    made = decide(view, settings, variables, sources, objectives, config.reference_point)
    points = made.points.tolist()
    ids = [run.recipe(expand(point, variables, settings))["id"] for point in points]
    return [made.stop, points, ids]


def _difference(again: Sequence[Any], kept: Sequence[Any]) -> str:
    """What is decided today, beside what was recorded."""
    now, before = (
        f"stop: {each[0]}" if each[0] else ", ".join(each[2]) or "nothing" for each in (again, kept)
    )
    return f"{now}, recorded {before}"


def print_replay(run_dir: Path, only: str | None) -> bool:
    """Print a line a search; whether all decisions are equal."""
    equal = True
    for found in replay(run_dir, only):
        print(found, flush=True)
        equal = equal and not found.differing
    return equal
