"""What is made of the observations: Pareto fronts, hypervolume, the searches side by side, and the models chosen."""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..objectives import evaluate
from ..pareto import added_hypervolume, non_dominated
from ..pareto import hypervolume as hypervolume_of
from ..selection import select
from ..space import end_points as points_of_sources
from ..space import importance, unit, weights
from .tables import (
    _TEXT,
    ALL,
    BEST_GRID,
    END_POINTS,
    MEASURED,
    REFERENCE,
    Run,
    benchmark_names,
    end_points,
    front_of,
    left,
    members,
    named,
    objective_names,
    points,
    raw_metrics,
    search_names,
    single_weight_searches,
)


def pareto(
    run: Run,
    observations: pd.DataFrame,
    settings: Mapping[str, Mapping[str, Any]],
    reference_point: Sequence[float],
    base_source: int | None = None,
) -> pd.DataFrame:
    """The Pareto fronts of every search and of all searches together (search "all").

    `settings`: search -> its flat settings, by which its surrogate is fitted once more to its whole set; end points
    outside of its space have no variables and no part in that. `base_source`: place of the source that is the base.
    Front "observed" is what is non-dominated as measured; front "posterior" is what is non-dominated by the
    surrogate's posterior mean, thinned to the (at most 8) members that carry the hypervolume. Over all
    searches, "posterior" is what is non-dominated among their posterior fronts; a candidate of several
    searches keeps the posterior with the smallest standard deviations. Members are in order of tokens.
    """
    # Here, not above: BoTorch takes seconds to import, and summaries need none of it.
    from ..search.surrogate import posterior_front

    names = objective_names(observations)
    means, sds = [f"{name}_posterior_mean" for name in names], [f"{name}_posterior_sd" for name in names]
    fronts, sets, believed = [], [], []
    for search in search_names(observations):
        rows = members(observations, search)
        variables = run.variables[search]
        sources = points_of_sources(variables, settings[search], base_source)
        given = {
            candidate: json.dumps(named(sources[place], variables) if place in sources else {})
            for place, candidate in enumerate(run.end_points.values())
        }
        is_given = rows["search"] == REFERENCE
        rows.loc[is_given, "variables"] = rows.loc[is_given, "candidate"].map(given)
        rows["found_by"] = np.where(rows["search"] == REFERENCE, "end points", search)
        rows["search"] = search
        scores = evaluate(
            [run.scores[candidate] for candidate in rows["candidate"]],
            run.normalisation,
            settings[search]["noise_share"],
        )
        rows[means], rows[sds], chosen = posterior_front(
            unit(points(rows), variables),
            scores.Y,
            scores.repeat_variance,
            scores.stderr,
            settings[search],
            reference_point,
            importance=importance(variables),
            weights=weights(variables),
            further=_left(run, observations, search, names),
        )
        sets.append(rows)
        believed.append(rows[chosen])
        fronts += [_front(rows, names, "observed"), _front(rows[chosen], means, "posterior")]
    for parts, values, kind in [(sets, names, "observed"), (believed, means, "posterior")]:
        rows = pd.concat(parts, ignore_index=True).assign(search=ALL)
        surest = (rows[sds] ** 2).sum(axis=1).sort_values(kind="stable").index
        fronts.append(_front(rows.loc[surest].drop_duplicates("candidate"), values, kind))

    columns = ["search", "front", "candidate", "found_by", "origin", "variables", *raw_metrics(observations)]
    columns += [column for column in observations.columns if "." in column]  # those of the benchmarks
    columns += [f"{name}{suffix}" for name in names for suffix in ["", "_stderr"]]
    columns += [column for pair in zip(means, sds, strict=True) for column in pair]
    table = pd.concat(fronts, ignore_index=True)[columns]
    return table.assign(reference_point=str(tuple(reference_point)))


def _left(
    run: Run, observations: pd.DataFrame, search: str, names: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """X, Y and variance of what was left after the first questions, as the search's surrogate knows them."""
    rows = left(observations, search)
    if rows.empty:
        return None
    variance = np.array([run.left[candidate]["variance"] for candidate in rows["candidate"]])
    return unit(points(rows), run.variables[search]), rows[names].to_numpy(float), variance


def _front(rows: pd.DataFrame, columns: list[str], kind: str) -> pd.DataFrame:
    kept = rows[non_dominated(rows[columns].to_numpy(float))]
    return kept.sort_values(["tokens", "candidate"]).assign(front=kind)


def hypervolume(observations: pd.DataFrame, reference_point: Sequence[float], gpus: int = 0) -> pd.DataFrame:
    """Hypervolume, front size and best objectives of a search's set after each of its evaluations.

    The end points belong to every set from the start. A failed evaluation counts as one and changes nothing; a search
    of which nothing is evaluated has no rows. Rows "end points only" and "best single-weight grid" (the whole set of
    the single-weight search with the largest hypervolume, if the run has one) are what a search is to be compared
    with. `hours` adds up what the evaluations took, times the `gpus` of each. The best objectives are those of the
    merged models: with the end points they would be 1 from the start.
    """
    names = objective_names(observations)
    given = end_points(observations)
    start = given[names].to_numpy(float)

    front_of_ends = start[non_dominated(start)]
    volume_of_ends = hypervolume_of(front_of_ends, reference_point)
    rows = []
    for search in search_names(observations):
        own = observations[observations["search"] == search]
        new = (own["status"] == "ok") & ~own["candidate"].isin(given["candidate"])
        front, volume = front_of_ends, volume_of_ends
        hours = own["seconds"].fillna(0).cumsum() * max(gpus, 1) / 3600
        best = own[names].where(new).cummax().ffill().add_prefix("best_")
        for count, place in enumerate(own.index, start=1):
            if new[place]:
                values = own.loc[place, names].to_numpy(float)
                volume += max(added_hypervolume(values, front, reference_point), 0.0)
                front = np.vstack([front, values])
                front = front[non_dominated(front)]
            row = {"search": search, "evaluations": count, **own.loc[place, ["iteration", "candidate"]]}
            row |= {"hours": hours[place], "hypervolume": volume, "front_size": len(front)}
            rows.append(row | best.loc[place].to_dict())
    singles = single_weight_searches(observations)
    last = [next(row for row in reversed(rows) if row["search"] == search) for search in singles]
    if last:
        largest = max(last, key=lambda row: row["hypervolume"])
        rows.append({**largest, "search": BEST_GRID, "iteration": None, "candidate": None})
    of_ends = {"hypervolume": volume_of_ends, "front_size": len(front_of_ends)}
    rows.append({"search": END_POINTS, "evaluations": 0, "hours": 0.0, **of_ends})
    columns = ["search", "evaluations", "hours", "iteration", "candidate", "hypervolume", "front_size"]
    table = pd.DataFrame(rows, columns=[*columns, *(f"best_{name}" for name in names)])
    table["iteration"] = table["iteration"].astype("Int64")
    return table.assign(reference_point=str(tuple(reference_point)))


def comparison(
    observations: pd.DataFrame,
    pareto: pd.DataFrame,
    hypervolume: pd.DataFrame,
    settings: Mapping[str, Mapping[str, Any]],
    left_out: Mapping[str, str],
) -> pd.DataFrame:
    """The searches side by side (Table 2): one row a merge on the observed front of its search, which may have none.

    `settings`: search -> its flat settings; `left_out`: search -> why, each a row.
    """
    names, observed = objective_names(observations), pareto[pareto["front"] == "observed"]
    union = observed.loc[observed["search"] == ALL, "candidate"]
    merges = observed[~observed["candidate"].isin(end_points(observations)["candidate"])]
    benchmarks = [name for name in observations.columns if name.endswith((".accuracy", ".tokens"))]
    shown = [
        "candidate",
        "variables",
        *(f"{name}{part}" for name in names for part in ["", "_stderr"]),
        *benchmarks,
    ]
    last = hypervolume.groupby("search").last()
    rows: list[dict[Hashable, Any]] = []
    for search in search_names(observations):
        own = merges.loc[merges["search"] == search, shown].to_dict("records")
        facts: dict[Hashable, Any] = {
            "search": search,
            **{key: settings[search][key] for key in ("method", "granularity")},
        }
        facts |= last.loc[search, ["hypervolume", "evaluations"]].to_dict()
        none: dict[Hashable, Any] = {"reason": "no merge on its observed front: the end points are better"}
        rows += [{**facts, "reason": "", **row} for row in own or [none]]
    rows += [{"search": search, "reason": f"left out: {reason}"} for search, reason in left_out.items()]
    columns = [
        "search",
        "method",
        "granularity",
        *shown,
        "union_front",
        "hypervolume",
        "evaluations",
        "reason",
    ]
    table = (
        pd.DataFrame(rows)
        .reindex(columns=columns)
        .assign(union_front=lambda frame: frame["candidate"].isin(union))
    )
    text = table.columns.intersection(["candidate", *_TEXT])
    # As objects, since columns without any value are of numbers.
    return (
        table.astype(dict.fromkeys(text, object))
        .fillna(dict.fromkeys(text, ""))
        .astype({"evaluations": "Int64"})
    )


def judged(rows: pd.DataFrame, names: Sequence[str], front: str) -> pd.DataFrame:
    """Rows of a front with the objectives by which they are chosen: on the posterior front the posterior means."""
    if front != "posterior":
        return rows
    return rows.assign(**{name: rows[f"{name}_posterior_mean"] for name in names})


def to_choose_from(observations: pd.DataFrame, pareto: pd.DataFrame, front: str) -> pd.DataFrame:
    """The front of all searches together, with all that limits may name."""
    rest = [key for key in MEASURED if key not in raw_metrics(observations)]
    measured = observations.drop_duplicates("candidate")[["candidate", *rest]]
    return front_of(pareto, ALL, front).merge(measured, on="candidate")


def selection(
    observations: pd.DataFrame,
    pareto: pd.DataFrame,
    *,
    front: str,
    divisions: int,
    nearest: int,
    limits: Mapping[str, Mapping[str, float]],
    preferences: Mapping[str, Sequence[float]] | None = None,
) -> pd.DataFrame:
    """The models chosen from the front "posterior" or "observed" of all searches together (section 3.4).

    On the posterior front the objectives, also where a limit names one, are the posterior means.
    """
    names, raw = objective_names(observations), raw_metrics(observations)
    rows = to_choose_from(observations, pareto, front)
    of_front = judged(rows, names, front)
    chosen = select(of_front, names, benchmark_names(rows), divisions, nearest, limits, preferences)
    found = rows.drop(columns="search").rename(columns={"found_by": "search"})
    parts = ["", "_stderr", "_posterior_mean", "_posterior_sd"]
    columns = ["candidate", "search", *raw, *(f"{name}{part}" for name in names for part in parts)]
    table = chosen.merge(found[[*columns, "variables"]], on="candidate", how="left")
    return table[["name", *columns[:2], "preference", "reason", "export", *columns[2:], "variables"]]
