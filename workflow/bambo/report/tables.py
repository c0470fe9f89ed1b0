"""The tables of a run: one row an evaluation, the Pareto fronts, the hypervolume as a search goes on.

`read_run` is the one place that reads a run's folder; the other functions work on frames. A failed evaluation
has a status, a reason and empty numbers, and enters no front and no hypervolume. The end points (each source
alone) are given to every search, so they belong to every search's set.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..candidate.folder import read_scores
from ..candidate.work import SIMULATED
from ..errors import BadInput
from ..files import atomic, read_json
from ..objectives import evaluate
from ..pareto import hypervolume as hypervolume_of
from ..pareto import non_dominated
from ..records import read_record
from ..selection import select

REFERENCE = "reference"  # rows of observations that no search proposed
ALL = "all"  # rows of pareto over all searches together
END_POINTS = "end points only"
BEST_GRID = "best single-weight grid"
TRUNCATED_LIMIT = 0.05  # share of truncated answers from which both objectives are biased
MEASURED = ["seconds", "peak_memory_gb"]  # columns that differ between two equal runs
RAW = ["accuracy", "tokens"]
_TEXT = [
    "name",
    "preference",
    "origin",
    "variables",
    "failure",
    "reason",
    "warning",
]  # empty where there is nothing to say
_BENCHMARK = ["accuracy", "accuracy_stderr", "tokens", "tokens_stderr", "truncated"]


@dataclass(frozen=True)
class Run:
    """What a run's folder holds about its searches so far."""

    variables: dict[str, list[str]]  # search -> names of its variables
    proposals: dict[str, list[dict[str, Any]]]  # search -> proposals in the order in which they were made
    scores: dict[str, dict[str, Any]]  # candidate -> scores.json, of those that are scored
    end_points: dict[str, str]  # source -> candidate
    own_files: dict[str, str]  # source -> candidate: the source under its own files
    normalisation: dict[str, Any]


def read_run(run_dir: Path, searches: Mapping[str, Sequence[Mapping[str, Any]]]) -> Run:
    """Read proposals, scores, end points and normalisation of `results/<run>`.

    `searches`: name -> variables, as in partition/blocks.json or search/<search>/variables.json. Candidates
    that are proposed but not scored yet are left out, so a run can be read while it goes on. BadInput: a file
    is missing or damaged.
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
    reference = read_json(run_dir / "endpoints/candidates.json")
    named = {*reference["end_points"].values(), *reference["own_files"].values()}
    named.update(
        candidate for made in proposals.values() for each in made for candidate in each["candidates"]
    )
    folders = {candidate: run_dir / "candidates" / candidate for candidate in sorted(named)}
    return Run(
        variables={name: [variable["name"] for variable in own] for name, own in searches.items()},
        proposals=proposals,
        scores={
            candidate: read_scores(folder)
            for candidate, folder in folders.items()
            if (folder / "scores.json").exists()
        },
        end_points=reference["end_points"],
        own_files=reference["own_files"],
        normalisation=read_json(run_dir / "endpoints/normalisation.json"),
    )


def observations(run: Run) -> pd.DataFrame:
    """One row a search and candidate, in the order of the proposals; then the reference rows.

    Reference rows (`search` = "reference", no iteration) are the end points, `origin` "end point: <source>",
    and the sources under their own files, `origin` "own files: <source>". Columns: see results/README.md.
    """
    rows = [
        (search, proposal["iteration"], candidate, origin, dict(zip(names, values, strict=True)))
        for search, names in run.variables.items()
        for proposal in run.proposals[search]
        for candidate, values, origin in zip(
            proposal["candidates"], proposal["variables"], proposal["origin"], strict=True
        )
        if candidate in run.scores
    ]
    # The first source is the one whose weight is searched.
    weights = {source: float(place == 0) for place, source in enumerate(run.end_points)}
    for kind, candidates in [("end point", run.end_points), ("own files", run.own_files)]:
        rows += [
            (REFERENCE, None, candidate, f"{kind}: {source}", {"model": weights[source]})
            for source, candidate in candidates.items()
            if candidate in run.scores
        ]
    placed = pd.DataFrame(rows, columns=["search", "iteration", "candidate", "origin", "variables"])
    placed["iteration"] = placed["iteration"].astype("Int64")
    placed["variables"] = [
        json.dumps({name: round(w, 6) for name, w in x.items()}) for x in placed["variables"]
    ]
    return placed.merge(_measured(run), on="candidate", how="left", validate="many_to_one")


def _measured(run: Run) -> pd.DataFrame:
    """Scores and objectives, one row a scored candidate."""
    scored = {candidate: scores for candidate, scores in run.scores.items() if scores["status"] == "ok"}
    benchmarks = list(next(iter(scored.values()))["benchmarks"])
    rows = []
    for candidate, scores in scored.items():
        parts = {name: scores["benchmarks"][name] for name in benchmarks}
        row = {"candidate": candidate, "status": "ok", "failure": "", "reason": ""}
        row |= {f"{name}.{key}": part[key] for name, part in parts.items() for key in _BENCHMARK}
        row |= {key: np.mean([part[key] for part in parts.values()]) for key in RAW}
        row |= {key: scores[key] for key in MEASURED}
        marks = [SIMULATED] if scores["engine"] == SIMULATED else []
        row["warning"] = "; ".join(
            marks
            + [
                f"{part['truncated']:.1%} of answers truncated in {name}"
                for name, part in parts.items()
                if part["truncated"] > TRUNCATED_LIMIT
            ]
        )
        rows.append(row)
    frame = pd.DataFrame(rows)
    names = list(run.normalisation["objectives"])
    values = evaluate(scored.values(), run.normalisation)
    frame[names] = values.Y
    frame[[f"{name}_stderr" for name in names]] = values.stderr
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
    order = [
        "candidate",
        *(f"{name}.{key}" for name in benchmarks for key in _BENCHMARK),
        *RAW,
        *(f"{name}{suffix}" for name in names for suffix in ["", "_stderr"]),
        *MEASURED,
        *["status", "failure", "reason", "warning"],
    ]
    unscored = pd.DataFrame(failed, columns=["candidate", "status", "failure", "reason", "warning"])
    return pd.concat([frame, unscored])[order]


def objective_names(observations: pd.DataFrame) -> list[str]:
    """Names of the objectives, read from the columns."""
    # A benchmark's columns have a dot; the means `accuracy` and `tokens` have no error beside them.
    columns = list(map(str, observations.columns))
    return [name for name in columns if f"{name}_stderr" in columns and "." not in name]


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
    return list(json.loads(observations.loc[observations["search"] == search, "variables"].iloc[0]))


def single_weight_searches(observations: pd.DataFrame) -> list[str]:
    """The searches whose one variable is the weight of the whole model."""
    return [name for name in search_names(observations) if variable_names(observations, name) == ["model"]]


def shown_searches(observations: pd.DataFrame) -> list[str]:
    """The searches whose fronts are shown: those with several weights, or all if there is none."""
    searches, singles = search_names(observations), single_weight_searches(observations)
    return [search for search in searches if search not in singles] or singles


def end_points(observations: pd.DataFrame) -> pd.DataFrame:
    """The reference rows of the end points, with the source's name as index."""
    rows = observations[
        (observations["search"] == REFERENCE) & observations["origin"].str.startswith("end point: ")
    ]
    return rows.set_index(rows["origin"].str.removeprefix("end point: ").rename("source"))


def with_raw_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the standard errors of the mean accuracy and tokens over (independent) benchmarks."""
    for key in RAW:
        errors = frame.filter(regex=rf"\.{key}_stderr$").to_numpy(float)
        frame = frame.assign(**{f"{key}_stderr": np.sqrt((errors**2).sum(axis=1)) / errors.shape[1]})
    return frame


def members(observations: pd.DataFrame, search: str) -> pd.DataFrame:
    """A search's set: its scored candidates and the end points, these with the search's own variables."""
    rows = observations[(observations["search"] == search) & (observations["status"] == "ok")]
    given = end_points(observations)
    given = given[~given["candidate"].isin(rows["candidate"])]
    names = variable_names(observations, search)
    given = given.assign(
        variables=[json.dumps(dict.fromkeys(names, json.loads(text)["model"])) for text in given["variables"]]
    )
    return pd.concat([rows, given], ignore_index=True)


def weights(frame: pd.DataFrame) -> np.ndarray:
    """The column `variables` as an array, rows x D."""
    return np.array([list(json.loads(text).values()) for text in frame["variables"]], dtype=float)


def pareto(
    run: Run,
    observations: pd.DataFrame,
    settings: Mapping[str, Mapping[str, Any]],
    reference_point: Sequence[float],
) -> pd.DataFrame:
    """The Pareto fronts of every search and of all searches together (search "all").

    `settings`: search -> its flat settings, by which its surrogate is fitted once more to its whole set.
    Front "observed" is what is non-dominated as measured; front "posterior" is what is non-dominated by the
    surrogate's posterior mean, thinned to the (at most 8) members that carry the hypervolume. Over all
    searches, "posterior" is what is non-dominated among their posterior fronts; a candidate of several
    searches keeps the posterior with the smallest standard deviations. Members are in order of tokens.
    """
    # Here, not above: BoTorch takes seconds to import, and summaries need none of it.
    from ..search.ask import posterior_front

    names = objective_names(observations)
    means, sds = [f"{name}_posterior_mean" for name in names], [f"{name}_posterior_sd" for name in names]
    fronts, sets, believed = [], [], []
    for search in search_names(observations):
        rows = members(observations, search)
        rows["found_by"] = np.where(rows["search"] == REFERENCE, "end points", search)
        rows["search"] = search
        scores = evaluate(
            [run.scores[candidate] for candidate in rows["candidate"]],
            run.normalisation,
            settings[search]["noise_share"],
        )
        rows[means], rows[sds], chosen = posterior_front(
            weights(rows), scores.Y, scores.repeat_variance, settings[search], reference_point
        )
        sets.append(rows)
        believed.append(rows[chosen])
        fronts += [_front(rows, names, "observed"), _front(rows[chosen], means, "posterior")]
    for parts, values, kind in [(sets, names, "observed"), (believed, means, "posterior")]:
        rows = pd.concat(parts, ignore_index=True).assign(search=ALL)
        surest = (rows[sds] ** 2).sum(axis=1).sort_values(kind="stable").index
        fronts.append(_front(rows.loc[surest].drop_duplicates("candidate"), values, kind))

    columns = ["search", "front", "candidate", "found_by", "origin", "variables", *RAW]
    columns += [column for column in observations.columns if "." in column]  # those of the benchmarks
    columns += [f"{name}{suffix}" for name in names for suffix in ["", "_stderr"]]
    columns += [column for pair in zip(means, sds, strict=True) for column in pair]
    table = pd.concat(fronts, ignore_index=True)[columns]
    return table.assign(reference_point=str(tuple(reference_point)))


def _front(rows: pd.DataFrame, columns: list[str], kind: str) -> pd.DataFrame:
    kept = rows[non_dominated(rows[columns].to_numpy(float))]
    return kept.sort_values(["tokens", "candidate"]).assign(front=kind)


def hypervolume(observations: pd.DataFrame, reference_point: Sequence[float]) -> pd.DataFrame:
    """Hypervolume, front size and best objectives of a search's set after each of its evaluations.

    The end points belong to every set from the start. A failed evaluation counts as one and changes nothing.
    Rows "end points only" and "best single-weight grid" (the whole set of the single-weight search with the
    largest hypervolume, if the run has one) are what a search is to be compared with. The best objectives are those
    of the merged models: with the end points they would be 1 from the start.
    """
    names = objective_names(observations)
    given = end_points(observations)
    start = given[names].to_numpy(float)

    def state(front: np.ndarray) -> dict[str, Any]:
        return {"hypervolume": hypervolume_of(front, reference_point), "front_size": len(front)}

    rows = []
    for search in search_names(observations):
        own = observations[observations["search"] == search]
        new = (own["status"] == "ok") & ~own["candidate"].isin(given["candidate"])
        front = start[non_dominated(start)]
        best = own[names].where(new).cummax().ffill().add_prefix("best_")
        for count, place in enumerate(own.index, start=1):
            if new[place]:
                front = np.vstack([front, own.loc[place, names].to_numpy(float)])
                front = front[non_dominated(front)]
            row = {"search": search, "evaluations": count, **own.loc[place, ["iteration", "candidate"]]}
            rows.append(row | state(front) | best.loc[place].to_dict())
    singles = single_weight_searches(observations)
    last = [next(row for row in reversed(rows) if row["search"] == search) for search in singles]
    if last:
        largest = max(last, key=lambda row: row["hypervolume"])
        rows.append({**largest, "search": BEST_GRID, "iteration": None, "candidate": None})
    rows.append({"search": END_POINTS, "evaluations": 0, **state(start[non_dominated(start)])})
    table = pd.DataFrame(rows)
    table["iteration"] = table["iteration"].astype("Int64")
    return table.assign(reference_point=str(tuple(reference_point)))


def selection(
    observations: pd.DataFrame,
    pareto: pd.DataFrame,
    *,
    front: str,
    divisions: int,
    nearest: int,
    limits: Mapping[str, Mapping[str, float]],
) -> pd.DataFrame:
    """The models chosen from the front "posterior" or "observed" of all searches together (section 3.4).

    On the posterior front the objectives, also where a limit names one, are the posterior means.
    """
    names = objective_names(observations)
    rows = pareto[(pareto["search"] == ALL) & (pareto["front"] == front)]
    rows = rows.merge(observations.drop_duplicates("candidate")[["candidate", *MEASURED]], on="candidate")
    benchmarks = [name.removesuffix(".accuracy") for name in rows.columns if name.endswith(".accuracy")]
    judged = rows
    if front == "posterior":
        judged = rows.assign(**{name: rows[f"{name}_posterior_mean"] for name in names})
    chosen = select(judged, names, benchmarks, divisions, nearest, limits)
    found = rows.drop(columns="search").rename(columns={"found_by": "search"})
    parts = ["", "_stderr", "_posterior_mean", "_posterior_sd"]
    columns = ["candidate", "search", *RAW, *(f"{name}{part}" for name in names for part in parts)]
    table = chosen.merge(found[[*columns, "variables"]], on="candidate", how="left")
    return table[["name", *columns[:2], "preference", "reason", "export", *columns[2:], "variables"]]


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
    return frame.astype({"iteration": "Int64"}) if "iteration" in frame else frame
