"""Whether the files that a run relies on are what was written, and the command that makes the others anew."""

import os
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .candidate.folder import MODEL, SCORES, check_samples, read_scores
from .candidate.lease import holder
from .confirm import CANDIDATES as CONFIRM
from .endpoints import CANDIDATES as END_POINTS
from .errors import BadInput
from .evaluation.data import read_hub_record
from .files import read_json
from .recipe import read_recipe
from .records import read_record
from .search.promotions import PROMOTIONS, promotion_paths
from .search.proposals import key_of, place_of, proposal_paths
from .smoke import CANDIDATES as SMOKE
from .start import RECORD, read_start

# Written by rules, without a checksum: whether they can be read is all that can be told.
PLAIN = [
    "sources/*.json",
    "base.json",
    "partition/blocks.json",
    "endpoints/normalisation.json",
    "search/*/variables.json",
    SMOKE,
    CONFIRM,
]
TABLES = ["partition/differences.parquet", "importance/*.parquet", "tables/*.parquet"]
# What a reader raises where somebody else wrote; damage can turn any value into another one.
UNREADABLE = (BadInput, ValueError, TypeError, KeyError, AttributeError)
UNKNOWN = ["snakemake", "..."]  # a start's command that run.json does not tell


class Problem(NamedTuple):
    """What is wrong, in one line; the files that Snakemake makes anew, those to remove and those to make before."""

    text: str
    again: Sequence[Path] = ()
    remove: Sequence[Path] = ()
    before: Sequence[Path] = ()


class Findings(NamedTuple):
    """What `check_run` found. notes: what is no problem; candidates, proposals: how many were read."""

    problems: list[Problem]
    notes: list[str]
    candidates: int
    proposals: int
    command: list[str] | None  # that started the run; None where run.json is damaged


def check_run(run_dir: Path) -> Findings:
    """Read all that the run in `results/<run>` relies on; BadInput where no run was started there."""
    try:
        start = read_start(run_dir)
        command, searches = [*map(str, start["command"])], [*start["config"]["searches"]]
        problems = []
    except UNREADABLE as error:
        if not (run_dir / RECORD).exists():
            raise
        command, searches = None, sorted(path.name for path in run_dir.glob("search/*"))
        problems = [Problem(f"{_text(run_dir / RECORD, error)}; the next start of the run writes it")]

    problems += [*_plain(run_dir, searches), *_benchmarks(run_dir), *_tables(run_dir)]
    # Those of a search that left the config are passed over: no rule would make them again.
    proposals = [path for name in searches for path in proposal_paths(run_dir, name).values()]
    promotions = [path for name in searches for path in promotion_paths(run_dir, name)]
    lasts = _lasts(proposals)
    makers: dict[str, list[Path]] = defaultdict(list)  # candidate -> the files whose jobs write its recipe
    broken: list[Path] = []  # may be makers, too
    for path in [run_dir / END_POINTS, *proposals, *promotions]:
        try:
            for id in _asked(path):
                makers[id].append(path)
        except UNREADABLE as error:
            if path.exists():
                broken.append(path)
                # Snakemake may read one that is there before it makes it again.
                problems.append(Problem(_text(path, error), [path], [path]))
    ids = sorted({*makers, *(path.name for path in run_dir.glob("candidates/*"))})
    folders = [run_dir / "candidates" / id for id in ids]
    for folder in folders:
        asking = makers.get(folder.name, [])
        is_past = any(_is_past(path, lasts) for path in asking)
        problems += _candidate(folder, asking or broken, is_past)
    return Findings(problems, [*_notes(run_dir, folders)], len(folders), len(proposals), command)


def repair(run_dir: Path, problems: Sequence[Problem], command: Sequence[str]) -> str:
    """The shell command that repairs the problems of a run that `command` started; empty where none can."""

    def known(paths: Iterable[Path]) -> list[str]:
        return [str(path) for path in as_snakemake(run_dir, sorted({*paths}))]

    again = [path for problem in problems for path in problem.again]
    early = [path for problem in problems if not problem.before for path in problem.again]
    before = [path for problem in problems for path in problem.before]
    remove = sorted({str(path) for problem in problems for path in problem.remove})
    steps = [["rm", *remove]] if remove else []
    steps += [[*command, "--until", *known(before), "--forcerun", *known(early)]] if before else []
    steps += [[*command, "--forcerun", *known(again)]] if again else []
    return " && ".join(map(shlex.join, steps))


def as_snakemake(run_dir: Path, paths: Sequence[Path]) -> list[Path]:
    """Files of a run as Snakemake knows them, relative to its working directory, however the run was given."""
    given = Path(os.path.abspath(run_dir))  # not resolved: `results` may be a link
    known = Path("results", given.name) if given.parent.name == "results" else run_dir
    return [known / path.relative_to(run_dir) for path in paths]


def print_check(run_dir: Path) -> bool:
    """Print what `check_run` finds, and the command that repairs it; whether all is whole."""
    problems, notes, candidates, proposals, command = check_run(run_dir)
    for line in [*notes, *(problem.text for problem in problems)]:
        print(line)
    read = f"{candidates} candidates, {proposals} proposals"
    if not problems:
        print(f"{read}: all whole")
        return True
    print(f"\n{read}: {len(problems)} {'problem' if len(problems) == 1 else 'problems'}.")
    repaired = repair(run_dir, problems, command or UNKNOWN)
    if repaired:
        if command is None:
            print(f"`{shlex.join(UNKNOWN)}` stands for the command that started the run.")
        print(f"This repairs them, and evaluates anew only what has no whole scores:\n\n  {repaired}")
    return False


def _text(path: Path, error: Exception) -> str:
    """What a reader found wrong, without its advice."""
    return str(error).partition("; ")[0] if isinstance(error, BadInput) else f"{path}: damaged"


def _problem(
    path: Path,
    read: Callable[[Path], Any],
    again: Sequence[Path],
    remove: Sequence[Path] = (),
    before: Sequence[Path] = (),
) -> Iterator[Problem]:
    """The problem that a reader has with a file; none with one that vanished meanwhile."""
    try:
        read(path)
    except UNREADABLE as error:
        if path.exists():
            yield Problem(_text(path, error), again, remove, before)


def _plain(run_dir: Path, searches: Sequence[str]) -> Iterator[Problem]:
    for path in sorted(path for pattern in PLAIN for path in run_dir.glob(pattern)):
        if path.parts[len(run_dir.parts)] != "search" or path.parent.name in searches:
            # Some are read before any job runs, and would stop the repair.
            yield from _problem(path, read_json, [path], [path])


def _benchmarks(run_dir: Path) -> Iterator[Problem]:
    for path in sorted(run_dir.glob("benchmarks/*.json")):
        yield from _problem(path, read_hub_record, [path])


def _tables(run_dir: Path) -> Iterator[Problem]:
    import pyarrow
    import pyarrow.parquet

    for path in sorted(path for pattern in TABLES for path in run_dir.glob(pattern)):
        try:
            pyarrow.parquet.read_table(path)
        except (pyarrow.ArrowException, OSError, ValueError):
            if path.exists():
                yield Problem(f"{path}: damaged, not a whole parquet file", [path])


def _asked(path: Path) -> Iterable[str]:
    """The candidates that a proposal, a promotion, or the end points' file asks for."""
    if path.name == Path(END_POINTS).name:
        record = read_json(path)
        return {*record["end_points"].values(), *record["own_files"].values()}
    if path.parent.name == PROMOTIONS:
        proposal = read_record(path, "promotion")
        search, key = proposal["search"], proposal["key"]
    else:
        proposal = read_record(path, "proposal")
        search, key = proposal["search"], key_of(proposal)
    if (search, key) != (path.parent.parent.name, path.stem):
        raise BadInput(f"{path}: holds {key} of search {search}, expected what its path says")
    return proposal["candidates"]


def _lasts(proposals: Iterable[Path]) -> dict[tuple[Path, int], int]:
    """The last step of each chain of proposals: of a search's iterations, or of a slot."""
    lasts: dict[tuple[Path, int], int] = {}
    for path in proposals:
        slot, step = place_of(path.stem)
        search = path.parent.parent
        lasts[search, slot] = max(step, lasts.get((search, slot), step))
    return lasts


def _is_past(path: Path, lasts: Mapping[tuple[Path, int], int]) -> bool:
    """Whether the run went on from what a file asked for, so that all of that was evaluated."""
    if path.name == Path(END_POINTS).name:
        return path.with_name("normalisation.json").exists()
    place = place_of(path.stem)
    if lasts.get((path.parent.parent, place.slot), -1) > place.step:
        return True
    done = [int(mark.name.removeprefix("complete-")) for mark in path.parent.parent.glob("complete-*")]
    # In a slot, the last step of a budget asks for nothing.
    return place.slot < 0 and max(done, default=-1) >= place.step


def _candidate(folder: Path, makers: Sequence[Path], is_past: bool) -> Iterator[Problem]:
    recipe, results = folder / "recipe.json", folder / SCORES

    def read(path: Path) -> None:
        id = read_recipe(path)["id"]
        if id != folder.name:
            raise BadInput(f"{path}: is the recipe of {id}, expected that of {folder.name}")

    def read_results(path: Path) -> None:
        scores = read_scores(folder)
        if scores["status"] == "ok":
            check_samples(folder, scores)

    # No rule makes a recipe; the jobs that asked for it write it where it is missing.
    lost = [*_problem(recipe, read, makers, [recipe])]
    if not recipe.exists() and makers:
        lost = [Problem(f"{recipe}: missing, {makers[0]} asks for it", makers)]
    yield from lost
    # Snakemake refuses to make scores whose recipe is not there, and passes over missing ones that it once made.
    before = makers if lost else []
    problems = [*_problem(results, read_results, [results], before=before)]
    if is_past and not results.exists():
        problems = [Problem(f"{results}: missing, the search went on from it", [results], before=before)]
    # Held: they are being made. A lost recipe that nothing asks for: nothing needs them.
    if holder(folder) is None and (makers or not lost):
        yield from problems


def _notes(run_dir: Path, folders: Sequence[Path]) -> Iterator[str]:
    who = holder(run_dir)
    if who is not None:
        yield f"{run_dir}: {who} is at work on it; a repair has to wait for its end"
    for folder in folders:
        models = [folder / MODEL] if who is None and (folder / MODEL).exists() else []
        for path in [*models, *folder.glob(".*.tmp")]:
            if holder(folder) is None:
                yield f"{path}: left over; the next job at this candidate uses or removes it"
