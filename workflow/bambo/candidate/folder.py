"""What lies in candidates/<id>/, and how it is read: nothing damaged is ever taken for a result."""

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..files import file_hash
from ..records import Damaged, read_record, write_record

if TYPE_CHECKING:
    import pandas as pd

SCORES = "scores.json"
SAMPLES = "samples.parquet"
MODEL = "model"  # the merged checkpoint: renamed into place, so it is whole if it is there
# Empty, for Snakemake: what it knows as an output of merge it deletes before the job, and expects after the evaluation.
MERGED = "merged"

log = logging.getLogger(__name__)


def read_scores(folder: Path) -> dict[str, Any]:
    """scores.json of a candidate, of a failed one, too; BadInput where there is none, Damaged where it is not whole."""
    scores = read_record(folder / SCORES, "scores")
    if scores["id"] != folder.name:
        raise Damaged(
            f"{folder / SCORES}: holds the scores of {scores['id']}, expected those of {folder.name}; "
            "`bambo check` on the run prints the command that repairs it"
        )
    return scores


def check_samples(folder: Path, scores: Mapping[str, Any]) -> None:
    """Damaged where samples.parquet is not the file that was written with these scores."""
    path = folder / SAMPLES
    if not path.exists() or file_hash(path) != scores["samples"]:
        state = "damaged" if path.exists() else "missing"
        raise Damaged(
            f"{path}: {state}, expected the file that was written with {SCORES}; "
            "`bambo check` on the run prints the command that repairs it"
        )


def read_samples(folder: Path) -> "pd.DataFrame":
    """One row an answer; BadInput where the candidate has no scores, Damaged where the file is not theirs."""
    import pandas as pd

    scores = read_scores(folder)
    if scores["status"] != "ok":
        raise BadInput(
            f"{folder}: its evaluation failed ({scores['failure']}), so it has no scores and no samples"
        )
    check_samples(folder, scores)
    return pd.read_parquet(folder / SAMPLES)


def is_scored(folder: Path) -> bool:
    """Whether whole scores and samples are there; what is damaged is said in the log, and does not count."""
    if not (folder / SCORES).exists():
        return False
    try:
        scores = read_scores(folder)
        if scores["status"] == "ok":
            check_samples(folder, scores)
    except Damaged as error:
        log.warning("%s: evaluated again", error)
        return False
    return scores["status"] == "ok"


def write_failure(folder: Path, kind: str, reason: str, attempts: int) -> None:
    """Record that a candidate could not be scored: no numbers stand for that."""
    failure = {"id": folder.name, "status": "failed", "failure": kind, "reason": reason, "attempts": attempts}
    write_record(folder / SCORES, "scores", failure)


def remove_model(folder: Path) -> None:
    """Remove the merged checkpoint, whole or half made."""
    # Away at once, then file by file: where a kill comes in between, no half model is taken for a whole one.
    removed = folder / f".{MODEL}.removed.tmp"
    shutil.rmtree(removed, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.replace(folder / MODEL, removed)
    for path in folder.glob(f".{MODEL}.*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def statistics_folder(run: Path) -> Path:
    """Where statistics of the sources are kept, for all candidates of a run."""
    return run / "sources" / "statistics"


def all_folders(run: Path) -> list[Path]:
    """The folders of all candidates of a run that have a recipe, by id."""
    found = sorted(path.parent for path in (Path(run) / "candidates").glob("*/recipe.json"))
    if not found and not Path(run).is_dir():
        raise BadInput(f"{run}: no such folder, expected results/<run>; correct the path")
    return found
