"""The start of a run: one Snakemake at a time works on it, and its folder says with which config and command."""

import atexit
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from . import __version__
from .candidate.lease import Held, hold, holder
from .config import Config, base_notes, importance_notes
from .disk import Space
from .errors import BadInput
from .evaluation.loading import check_installed
from .files import read_json, write_json

RECORD = "run.json"
# Options of Snakemake that say what to do this one time; with the last two, the words that follow belong to them.
ONCE = ("-F", "--forceall", "-f", "--force", "--unlock", "-R", "--forcerun")


def check_environment(config: Config, conda: bool) -> None:
    """BadInput where evaluations would fail for want of their engine; conda brings it when it is needed."""
    python = config.evaluation.python
    if not conda and (python is None or Path(python).exists()):
        check_installed(config.evaluation.engine, python)


def begin(config: Config, given: Mapping[str, Any], parallel: int, notes: Sequence[str]) -> None:
    """Take the run for this process until it ends, write run.json, and say the notes.

    given: the config as the user wrote it. parallel: evaluations that may run at a time. BadInput where another
    process is at work on the run.
    """
    stack = ExitStack()
    try:
        stack.enter_context(hold(config.folder, wait=False))
    except Held as held:
        raise BadInput(
            f"{config.folder}: {held.holder} is at work on this run; wait for its end, or stop it"
        ) from None
    atexit.register(stack.close)
    record = {
        "command": command(sys.argv),
        "started": datetime.now().isoformat(" ", "seconds"),
        "parallel": parallel,
        "bambo": __version__,
        "config": given,
    }
    write_json(config.folder / RECORD, record)
    for note in notes:
        print(note, file=sys.stderr, flush=True)


def note_if_at_work(folder: Path) -> None:
    """Say who works on the run: Snakemake's own lock, which follows, names nobody."""
    who = holder(folder)
    if who is not None and who.pid != os.getpid():
        print(f"{folder}: {who} is at work on this run", file=sys.stderr, flush=True)


def notes(config: Config, gpus: int | None, space: Space | None) -> list[str]:
    """What a user should know of machine and methods. gpus: of this machine, None where a scheduler assigns them."""
    said = []
    if gpus == 0 and config.evaluation.device == "auto" and config.resources.evaluate.gpu > 0:
        said.append("no GPU here: evaluating on the CPU")
    if config.evaluation.engine == "simulated":
        said.append("evaluation.engine: simulated: all scores of this run are made up")
    if space is not None:
        said.append(str(space))
    said += base_notes(config).values()
    said += importance_notes(config)
    said += [f"searches.{name}: left out: {reason}" for name, reason in config.left_out.items()]
    return said


def command(argv: Sequence[str]) -> list[str]:
    """The command of a start without what it forced or unlocked, so that it can be given again with something else."""
    program = argv[0] if Path(argv[0]).name == "snakemake" else "snakemake"
    kept: list[str] = []
    skip = False
    for word in argv[1:]:
        option = word.partition("=")[0]
        if word.startswith("-"):
            skip = word in ONCE[-2:]
        if not skip and option not in ONCE:
            kept.append(word)
    return [program, *kept]


def read_start(folder: Path) -> dict[str, Any]:
    """run.json of `results/<run>`; BadInput where there is none."""
    if not (folder / RECORD).exists():
        raise BadInput(
            f"{folder}: no {RECORD}, expected the folder of a run that was started; correct the path"
        )
    return read_json(folder / RECORD)
