"""The files of a search's decisions: what they are called, and how they are read.

A synchronous search has one for each iteration, `t<iteration>.json`. An asynchronous one hands out candidates one by
one to slots; each slot is a chain of decisions, `s<slot>k<step>.json`, and `iteration` of a decision is its place in
the sequence of all slots together.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..records import Damaged, read_record

KEY = r"t\d\d\d+|s\d\d+k\d\d\d+"  # of Snakemake: no `{3,}`, which it would take for a wildcard
_PLACE = re.compile(r"(?:t|s(\d+)k)(\d+)")


class Place(NamedTuple):
    """Where in its search a decision stands: an iteration (slot -1), or a step of a slot."""

    slot: int
    step: int

    @property
    def key(self) -> str:
        return f"t{self.step:03d}" if self.slot < 0 else f"s{self.slot:02d}k{self.step:03d}"

    @property
    def previous(self) -> "Place":
        return Place(self.slot, self.step - 1)


def place_of(key: str) -> Place:
    """The place that a key names."""
    found = _PLACE.fullmatch(key)
    assert found is not None, key
    slot, step = found.groups()
    return Place(-1 if slot is None else int(slot), int(step))


def iteration_key(iteration: int) -> str:
    return Place(-1, iteration).key


def key_of(proposal: Mapping[str, Any]) -> str:
    """The key of a decision, by what it holds."""
    slotted = "slot" in proposal
    return Place(proposal["slot"] if slotted else -1, proposal["step" if slotted else "iteration"]).key


def folder_of(run_dir: Path, search: str) -> Path:
    return run_dir / "search" / search / "proposals"


def proposal_path(run_dir: Path, search: str, key: str) -> Path:
    return folder_of(run_dir, search) / f"{key}.json"


def proposal_paths(run_dir: Path, search: str) -> dict[Place, Path]:
    """The decisions of a search that are there: iterations, or slots and their steps, in order."""
    paths = [path for path in folder_of(run_dir, search).glob("*.json") if _PLACE.fullmatch(path.stem)]
    return dict(sorted((place_of(path.stem), path) for path in paths))


def read_proposals(run_dir: Path, search: str) -> dict[Place, dict[str, Any] | None]:
    """The decisions of a search that are there, by place; None for a damaged one."""
    found: dict[Place, dict[str, Any] | None] = {}
    for place, path in proposal_paths(run_dir, search).items():
        try:
            found[place] = read_record(path, "proposal")
        except Damaged:
            found[place] = None
    return found


def in_order(proposals: Mapping[Place, dict[str, Any] | None]) -> list[dict[str, Any]]:
    """The whole ones in the order in which they were made.

    What asks for nothing has the number of the next one that does.
    """
    whole = [proposal for proposal in proposals.values() if proposal is not None]
    return sorted(whole, key=lambda proposal: (proposal["iteration"], len(proposal["candidates"])))


def left_behind(run_dir: Path, search: str, slots: int) -> list[str]:
    """Candidates of slots that a search has no more: nobody goes on from them, but they were asked for."""
    paths = proposal_paths(run_dir, search)
    proposals = [read_record(path, "proposal") for place, path in paths.items() if place.slot >= slots]
    return [id for proposal in proposals for id in proposal["candidates"]]
