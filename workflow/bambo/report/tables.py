"""The tables of a run, as frames and files: one row an evaluation, and what their columns say.

`read_run` is the one place that reads a run's folder; the other functions work on frames, as those of `fronts` do. A
failed evaluation has a status, a reason and empty numbers, and enters no front and no hypervolume. The end points (each
source alone) are given to every search, so they belong to every search's set.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..candidate.folder import read_scores
from ..candidate.work import SIMULATED
from ..endpoints import CANDIDATES as REFERENCES
from ..errors import BadInput
from ..files import atomic, read_json
from ..objectives import METRICS, WHOLE, benchmarks_of, evaluate, measured
from ..records import read_record
from ..search.promotions import left_in, read_promotions, settled
from ..space import alone, fractions, natural, weight_name

LEFT = "left"  # status of candidates that were not asked all questions: their objectives are estimates
REFERENCE = "reference"  # rows of observations that no search proposed
ALL = "all"  # rows of pareto over all searches together
END_POINTS = "end points only"
BEST_GRID = "best single-weight grid"
TRUNCATED_LIMIT = 0.05  # share of truncated answers from which objectives are biased
MEASURED = ["seconds", "peak_memory_gb"]  # columns of every table that differ between two equal runs
RAW = ["accuracy", "tokens"]  # metrics of every table
_TEXT = [
    "name",
    "preference",
    "origin",
    "variables",
    "failure",
    "reason",
    "warning",
    "method",
    "granularity",
    "statistic",
    "start_from",
]  # empty where there is nothing to say


@dataclass(frozen=True)
class Run:
    """What a run's folder holds about its searches so far."""

    variables: dict[str, list[dict[str, Any]]]  # search -> its variables
    proposals: dict[str, list[dict[str, Any]]]  # search -> proposals in the order in which they were made
    scores: dict[str, dict[str, Any]]  # candidate -> scores.json, of those that are scored
    end_points: dict[str, str]  # source -> candidate
    own_files: dict[str, str]  # source -> candidate: the source under its own files
    normalisation: dict[str, Any]
    # Metrics that limits name, beside those of the objectives, and the prices of the costs among them.
    limits: tuple[str, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    # Candidates that were left after the first questions: what is recorded of them.
    left: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def metrics(self) -> list[str]:
        """Metrics that have columns, beside RAW: those of the objectives, then those of the limits."""
        used = [spec["metric"] for spec in self.normalisation["objectives"].values()]
        return [metric for metric in dict.fromkeys([*used, *self.limits]) if metric not in RAW]


def read_run(
    run_dir: Path,
    searches: Mapping[str, Sequence[Mapping[str, Any]]],
    limits: Sequence[str] = (),
    prices: Mapping[str, float] | None = None,
) -> Run:
    """Read proposals, scores, end points and normalisation of `results/<run>`.

    `searches`: name -> variables, as in partition/blocks.json or search/<search>/variables.json. `limits`: columns that
    `selection.limits` name; `prices`: those of today, if not those of the start. Candidates that are proposed but not
    scored yet are left out, so a run can be read while it goes on. BadInput: a file is missing or damaged.
    """
    run_dir = Path(run_dir)
    proposals = {
        search: sorted(
            (
                read_record(path, "proposal")
                for path in (run_dir / "search" / search / "proposals").glob("*.json")
            ),
            key=lambda proposal: proposal["iteration"],
        )
        for search in searches
    }
    promotions = {search: list(read_promotions(run_dir, search).values()) for search in searches}
    proposals = {search: settled(made, promotions[search]) for search, made in proposals.items()}
    reference = read_json(run_dir / REFERENCES)
    named = {*reference["end_points"].values(), *reference["own_files"].values()}
    named.update(
        candidate for made in proposals.values() for each in made for candidate in each["candidates"]
    )
    folders = {candidate: run_dir / "candidates" / candidate for candidate in sorted(named)}
    normalisation = read_json(run_dir / "endpoints/normalisation.json")
    # "tokens", or "<benchmark>.tokens"; objectives and the tables' own columns are limited, too.
    limited = [name if name in METRICS else name.partition(".")[2] for name in limits]
    return Run(
        variables={name: [dict(variable) for variable in own] for name, own in searches.items()},
        proposals=proposals,
        scores={
            candidate: read_scores(folder)
            for candidate, folder in folders.items()
            if (folder / "scores.json").exists()
        },
        end_points=reference["end_points"],
        own_files=reference["own_files"],
        normalisation=normalisation,
        limits=tuple(metric for metric in limited if metric in METRICS and metric not in MEASURED),
        prices=normalisation["prices"] if prices is None else prices,
        left=left_in(record for made in promotions.values() for record in made),
    )


def check_scored(run: Run, iterations: Mapping[str, int]) -> None:
    """BadInput that names the candidates without scores that a budget asks for: search -> its last iteration.

    The end points are asked for by every budget; what a larger one asked for before may be unfinished.
    """
    asked = [*run.end_points.values(), *run.own_files.values()]
    for search, last in iterations.items():
        for proposal in run.proposals[search]:
            asked += proposal["candidates"] if proposal["iteration"] <= last else []
    missing = [candidate for candidate in dict.fromkeys(asked) if candidate not in run.scores]
    if missing:
        raise BadInput(
            f"candidates {', '.join(missing)}: no scores.json, expected one of each that was proposed; start the run "
            "again, which evaluates them"
        )


def observations(run: Run) -> pd.DataFrame:
    """One row a search and candidate, in the order of the proposals; then the reference rows.

    Reference rows (`search` = "reference", no iteration) are the end points, `origin` "end point: <source>",
    and the sources under their own files, `origin` "own files: <source>". Columns: see results/README.md.
    """
    rows = [
        (search, proposal["iteration"], candidate, origin, named(values, variables))
        for search, variables in run.variables.items()
        for proposal in run.proposals[search]
        for candidate, values, origin in zip(
            proposal["candidates"], proposal["variables"], proposal["origin"], strict=True
        )
        if candidate in run.scores
    ]
    sources = list(run.end_points)
    names = [weight_name("model", sources, place) for place in range(len(sources) - 1)]
    values = [fractions(alone(place, len(sources))) for place in range(len(sources))]
    weights = {
        source: dict(zip(names, own, strict=True)) for source, own in zip(sources, values, strict=True)
    }
    for kind, candidates in [("end point", run.end_points), ("own files", run.own_files)]:
        rows += [
            (REFERENCE, None, candidate, f"{kind}: {source}", weights[source])
            for source, candidate in candidates.items()
            if candidate in run.scores
        ]
    placed = pd.DataFrame(rows, columns=["search", "iteration", "candidate", "origin", "variables"])
    placed["iteration"] = placed["iteration"].astype("Int64")
    placed["variables"] = [
        json.dumps({name: round(w, 6) for name, w in x.items()}) for x in placed["variables"]
    ]
    return placed.merge(_measured(run), on="candidate", how="left", validate="many_to_one")


def named(x: Sequence[float], variables: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """A point as it is shown, by the names of its variables."""
    names = [variable["name"] for variable in variables]
    return dict(zip(names, natural(x, variables), strict=True))


def _measured(run: Run) -> pd.DataFrame:
    """Scores and objectives, one row a scored candidate."""
    scored = {candidate: scores for candidate, scores in run.scores.items() if scores["status"] == "ok"}
    some = next(iter(scored.values()))
    raw = [*RAW, *run.metrics]
    # Where one metric has no value of a benchmark, none of the candidates' has: all have the same tasks.
    owners = {metric: benchmarks_of(some, metric) for metric in raw}
    rows = []
    for candidate, scores in scored.items():
        parts = scores["benchmarks"]
        row: dict[str, Any] = {"candidate": candidate, "status": "ok", "failure": "", "reason": ""}
        for metric, benchmarks in owners.items():
            found = {name: measured(scores, metric, name, run.prices) for name in benchmarks}
            for name, value in found.items():
                if name != WHOLE:
                    row |= {f"{name}.{metric}": value.value, f"{name}.{metric}_stderr": value.stderr}
            row[metric] = np.mean([np.nan if each.value is None else each.value for each in found.values()])
        row |= {f"{name}.truncated": part["truncated"] for name, part in parts.items()}
        row |= {key: scores[key] for key in MEASURED if key not in raw}
        row["warning"] = "; ".join(_remarks(scores, run.metrics))
        rows.append(row)
    frame = pd.DataFrame(rows)
    names = list(run.normalisation["objectives"])
    values = evaluate(scored.values(), run.normalisation)
    frame[names] = values.Y
    frame[[f"{name}_stderr" for name in names]] = values.stderr
    for candidate, record in run.left.items():
        is_left = frame["candidate"] == candidate
        frame.loc[is_left, "status"] = LEFT
        frame.loc[is_left, names] = record["objectives"]
        frame.loc[is_left, [f"{name}_stderr" for name in names]] = np.sqrt(record["variance"])
    failed = [
        {
            "candidate": candidate,
            "status": "failed",
            "failure": scores["failure"],
            "reason": " ".join(scores["reason"].split()),
            "warning": "",
        }
        for candidate, scores in run.scores.items()
        if scores["status"] == "failed"
    ]
    order = ["candidate"]
    for name in some["benchmarks"]:
        for metric in (metric for metric in raw if name in owners[metric]):
            order += [f"{name}.{metric}", f"{name}.{metric}_stderr"]
        order.append(f"{name}.truncated")
    order += [*raw, *(f"{name}{suffix}" for name in names for suffix in ["", "_stderr"])]
    order += [*(key for key in MEASURED if key not in raw), "status", "failure", "reason", "warning"]
    unscored = pd.DataFrame(failed, columns=["candidate", "status", "failure", "reason", "warning"])
    numbers = dict.fromkeys(frame.columns.difference(unscored.columns), float)
    return pd.concat([frame.astype(numbers), unscored])[order]


def _remarks(scores: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """What to know of a candidate's numbers."""
    remarks = [SIMULATED] if scores["engine"] == SIMULATED else []
    for name, part in scores["benchmarks"].items():
        if part["truncated"] > TRUNCATED_LIMIT:
            remarks.append(f"{part['truncated']:.1%} of answers truncated in {name}")
        if "tokens_per_correct" in metrics and part["accuracy"] == 0:
            remarks.append(f"no answer right in {name}: tokens_per_correct is a lower bound")
    return remarks


def objective_names(observations: pd.DataFrame) -> list[str]:
    """Names of the objectives, read from the columns."""
    # A benchmark's columns have a dot; the means `accuracy` and `tokens` have no error beside them.
    columns = list(map(str, observations.columns))
    return [name for name in columns if f"{name}_stderr" in columns and "." not in name]


def benchmark_names(table: pd.DataFrame) -> list[str]:
    """Names of the benchmarks, read from the columns."""
    columns = map(str, table.columns)
    return [name.removesuffix(".accuracy") for name in columns if name.endswith(".accuracy")]


def raw_metrics(table: pd.DataFrame) -> list[str]:
    """The raw metrics of a table, means over benchmarks: accuracy, tokens, and what else objectives are made of."""
    # They stand behind the variables and before the objectives.
    columns = list(map(str, table.columns))
    own = columns[columns.index("variables") + 1 : columns.index(objective_names(table)[0])]
    return [name for name in own if "." not in name]


def is_simulated(observations: pd.DataFrame) -> bool:
    """Whether scores are made up, by `evaluation.engine: simulated`; all of a run are, or none."""
    return bool(observations["warning"].str.startswith(SIMULATED).any())


def truncated(observations: pd.DataFrame) -> pd.Series:
    """Which rows have a benchmark with more than TRUNCATED_LIMIT of its answers truncated."""
    return observations["warning"].str.contains("truncated")


def search_names(observations: pd.DataFrame) -> list[str]:
    """The searches in a table, in the order of the config."""
    return [name for name in observations["search"].unique() if name != REFERENCE]


def variable_names(observations: pd.DataFrame, search: str) -> list[str]:
    """Names of a search's variables, embeddings first, head last."""
    return _names(observations.loc[observations["search"] == search, "variables"])


def _names(variables: Iterable[str]) -> list[str]:
    return max((list(json.loads(text)) for text in variables), key=len)


def single_weight_searches(observations: pd.DataFrame) -> list[str]:
    """The searches that tell no parts of the model apart: one weight, or one of each source, for the whole."""
    return [
        search
        for search in search_names(observations)
        if all(name.partition(":")[0] == "model" for name in variable_names(observations, search))
    ]


def shown_searches(observations: pd.DataFrame) -> list[str]:
    """The searches whose fronts are shown: those with weights for parts of the model, or all if there is none."""
    searches, singles = search_names(observations), single_weight_searches(observations)
    return [search for search in searches if search not in singles] or singles


def end_points(observations: pd.DataFrame) -> pd.DataFrame:
    """The reference rows of the end points, with the source's name as index."""
    rows = observations[
        (observations["search"] == REFERENCE) & observations["origin"].str.startswith("end point: ")
    ]
    return rows.set_index(rows["origin"].str.removeprefix("end point: ").rename("source"))


def with_raw_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the standard errors of the raw metrics' means over (independent) benchmarks; NaN where there are none."""
    for key in raw_metrics(frame):
        errors = frame.filter(regex=rf"\.{re.escape(key)}_stderr$").to_numpy(float)
        count = errors.shape[1] or np.nan
        frame = frame.assign(**{f"{key}_stderr": np.sqrt((errors**2).sum(axis=1)) / count})
    return frame


def front_of(pareto: pd.DataFrame, search: str, front: str) -> pd.DataFrame:
    """The members of a search's front, or of that of ALL; front: "posterior" or "observed"."""
    return pareto[(pareto["search"] == search) & (pareto["front"] == front)]


def members(observations: pd.DataFrame, search: str) -> pd.DataFrame:
    """A search's set: its scored candidates and the end points."""
    rows = observations[(observations["search"] == search) & (observations["status"] == "ok")]
    given = end_points(observations)
    return pd.concat([rows, given[~given["candidate"].isin(rows["candidate"])]], ignore_index=True)


def left(observations: pd.DataFrame, search: str) -> pd.DataFrame:
    """A search's candidates that were left after the first questions."""
    return observations[(observations["search"] == search) & (observations["status"] == LEFT)]


def points(frame: pd.DataFrame) -> np.ndarray:
    """The column `variables` as an array, rows x D; NaN for models outside of the search's space."""
    names = _names(frame["variables"])
    rows = [json.loads(text) for text in frame["variables"]]
    return np.array([[row.get(name, np.nan) for name in names] for row in rows], dtype=float)


def write(stem: Path, frame: pd.DataFrame, *, parquet: bool = False) -> None:
    """Write `<stem>.csv` (six significant digits) and, if asked, `<stem>.parquet` (in full) before it."""
    if parquet:
        with atomic(stem.with_name(f"{stem.name}.parquet")) as temporary:
            frame.to_parquet(temporary, index=False)
    with atomic(stem.with_name(f"{stem.name}.csv")) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def read(run_dir: Path, name: str) -> pd.DataFrame:
    """Read `results/<run>/tables/<name>.csv`; BadInput where it is not there yet."""
    path = Path(run_dir) / "tables" / f"{name}.csv"
    if not path.exists():
        raise BadInput(f"{path}: no such table, expected a finished run; run snakemake first")
    # An id of twelve hexadecimal digits can look like a number (0012... or 12e4...).
    frame = pd.read_csv(path, dtype=dict.fromkeys(["candidate", *_TEXT], str))
    for column in frame.columns.intersection(_TEXT):
        frame[column] = frame[column].fillna("")
    # Means over searches are no counts.
    counts = frame.columns.intersection([] if "statistic" in frame else ["iteration", "evaluations"])
    return frame.astype(dict.fromkeys(counts, "Int64"))
