"""What finished evaluations of a run tell of those to come."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from ..candidate.folder import SAMPLES, all_folders, read_scores
from ..candidate.work import SIMULATED
from ..config import Config
from ..confirm import confirm_ids
from ..errors import BadInput
from ..smoke import smoke_ids
from .ranges import Range


class Measured(NamedTuple):
    """Means of evaluations that are done; None where they do not tell."""

    source: str  # in words
    whole: bool  # of all questions, not of a smoke run's few
    questions: dict[str, int]
    prompt_tokens: dict[str, float]
    output_tokens: dict[str, Range]  # least and most of the candidates
    tokens_per_second: float | None  # of one GPU
    start_seconds: float | None
    on_gpu: bool


def measured(config: Config) -> Iterator[Measured]:
    """What is known from the run itself: all its evaluations, then its smoke run."""
    if config.evaluation.engine == SIMULATED or not config.folder.is_dir():
        return
    smoke, confirming = smoke_ids(config.folder), confirm_ids(config.folder)
    done: dict[bool, dict[Path, Any]] = {True: {}, False: {}}
    for folder in all_folders(config.folder):
        if folder.name in confirming:
            continue
        try:
            scores = read_scores(folder)
        except BadInput:
            continue
        if scores["status"] == "ok":
            done[folder.name not in smoke][folder] = scores
    for whole, found in done.items():
        if found:
            yield _means(found, whole)


def _means(found: Mapping[Path, Any], whole: bool) -> Measured:
    """Of the folders' scores."""
    folders, all_scores = [*found], [*found.values()]
    names = list(all_scores[0]["benchmarks"])
    tokens = {name: [scores["benchmarks"][name]["tokens"] for scores in all_scores] for name in names}
    generated = sum(
        part["tokens"] * part["questions"] * part["repeats"]
        for scores in all_scores
        for part in scores["benchmarks"].values()
    )
    seconds = sum(scores["generation_seconds"] * max(scores["gpus"], 1) for scores in all_scores)
    return Measured(
        f"measured over {len(folders)} evaluations of this run" if whole else "measured by the smoke run",
        whole,
        {name: all_scores[0]["benchmarks"][name]["questions"] for name in names} if whole else {},
        _prompt_tokens(folders[0]),
        {name: Range(min(values), max(values)) for name, values in tokens.items()},
        generated / seconds if seconds else None,
        median(scores["seconds"] - scores["generation_seconds"] for scores in all_scores),
        any(scores["gpus"] for scores in all_scores),
    )


def _prompt_tokens(folder: Path) -> dict[str, float]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / SAMPLES, columns=["benchmark", "prompt_tokens"])
    counts: dict[str, list[int]] = {}
    for row in table.to_pylist():
        counts.setdefault(row["benchmark"], []).append(row["prompt_tokens"])
    return {name: fmean(values) for name, values in counts.items()}
