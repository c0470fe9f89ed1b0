"""Chosen models on answers that did not choose them: fresh scores, and by how much the front had promised too much."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..candidate.folder import read_samples, read_scores
from ..confirm import HELD_OUT, REPEATED
from ..endpoints import CANDIDATES as END_POINTS
from ..errors import BadInput
from ..files import read_json
from ..objectives import evaluate, normalisation
from ..pareto import hypervolume, thinned
from ..resampling import Answered, Array, Resampling, interval, probability_dominated
from . import style, tables
from .fronts import judged
from .searches import output_tokens

TITLES = {REPEATED: "the search's questions, answered anew", HELD_OUT: "held-out questions"}
END_POINT = "end points"  # what found them
VOLUMES = 500  # draws of the hypervolume, which takes longer than the rest
WIDTH = 1.96  # standard errors: 95 % of a normal distribution


class Fresh(NamedTuple):
    """Members, then end points, on one kind of questions, as the search measured them and as they were measured again.

    Y, draws: objectives, [n x m] and [draws x n x m]; the draws of both are of the same questions where these are.
    """

    kind: str
    candidates: list[str]
    fresh: list[str]
    sources: list[str]  # of the end points
    scores: list[Mapping[str, Any]]  # fresh
    searched_scores: list[Mapping[str, Any]]
    Y: Array
    searched_Y: Array
    draws: Array
    searched_draws: Array
    raw: Mapping[str, Array]  # accuracy and tokens: [draws x n]


def chosen(
    pareto: pd.DataFrame, reference_point: Sequence[float], end_points: Sequence[str], members: int
) -> list[str]:
    """The merged models to measure again: of the front by posterior mean those that make up its hypervolume."""
    rows = tables.front_of(pareto, tables.ALL, "posterior")
    rows = rows[~rows["candidate"].isin(end_points)]
    if rows.empty:
        raise BadInput(
            "confirm: the front by posterior mean is that of the end points alone, so that there is nothing to "
            "measure again; search longer"
        )
    names = tables.objective_names(pareto)
    Y = judged(rows, names, "posterior")[names].to_numpy(float)
    return rows["candidate"].iloc[thinned(Y, reference_point, members)].tolist()


def read_fresh(
    run_dir: Path,
    kind: str,
    ids: Mapping[str, Mapping[str, str]],
    objectives: Mapping[str, Mapping[str, Any]],
) -> Fresh:
    """ids: of this kind, from confirm/candidates.json; objectives: the config's. Members that failed are left out.

    BadInput where end points leave no scale on the fresh questions.
    """
    scale = read_json(run_dir / "endpoints/normalisation.json")
    searched_ends = read_json(run_dir / END_POINTS)["end_points"]
    pairs = {
        id: again for id, again in ids["members"].items() if _scores(run_dir, again)["status"] == "ok"
    } | {searched_ends[source]: again for source, again in ids["end_points"].items()}
    fresh_scale = scale
    if kind == HELD_OUT:
        ends = {source: _scores(run_dir, id) for source, id in ids["end_points"].items()}
        fresh_scale = normalisation(objectives, ends, scale["prices"])
    again = list(pairs.values())
    searched = _sampled(run_dir, list(pairs), 0)
    fresh = _sampled(run_dir, again, 0 if kind == REPEATED else 1)
    old, new = ([each.scores for each in sampling.answered.values()] for sampling in (searched, fresh))
    old_draws, new_draws = searched.objectives(list(pairs), scale), fresh.objectives(again, fresh_scale)
    # Where few questions were asked, both end points may score the same on a draw, which then has no scale.
    whole = np.isfinite(old_draws).all(axis=(1, 2)) & np.isfinite(new_draws).all(axis=(1, 2))
    return Fresh(
        kind,
        list(pairs),
        again,
        list(ids["end_points"]),
        new,
        old,
        evaluate(new, fresh_scale).Y,
        evaluate(old, scale).Y,
        new_draws[whole],
        old_draws[whole],
        {metric: np.stack([fresh.raw(id, metric) for id in again], axis=1) for metric in tables.RAW},
    )


def _sampled(run_dir: Path, ids: Sequence[str], seed: int) -> Resampling:
    """Draws of the questions that candidates answered."""
    folder = run_dir / "candidates"
    return Resampling(
        {id: Answered(_scores(run_dir, id), read_samples(folder / id)) for id in ids}, seed=seed
    )


def models(fresh: Fresh, pareto: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """One row a member or end point: fresh scores and objectives with 95 % intervals, beside those of the search."""
    believed = tables.front_of(pareto, tables.ALL, "posterior").set_index("candidate")
    dominated = probability_dominated(fresh.draws)
    low, high = interval(fresh.draws)
    rows = []
    for place, candidate in enumerate(fresh.candidates):
        member = place < len(fresh.candidates) - len(fresh.sources)
        row: dict[str, Any] = {
            "questions": fresh.kind,
            "candidate": candidate,
            "measured_as": fresh.fresh[place],
            "found_by": believed["found_by"].get(candidate, "") if member else END_POINT,
        }
        for metric in tables.RAW:
            ends = interval(fresh.raw[metric][:, place])
            row |= {f"{metric}_searched": _mean(fresh.searched_scores[place], metric)}
            row |= {metric: _mean(fresh.scores[place], metric)}
            row |= {f"{metric}_low": float(ends[0]), f"{metric}_high": float(ends[1])}
        for k, name in enumerate(names):
            mean = believed[f"{name}_posterior_mean"].get(candidate, np.nan) if member else np.nan
            row |= {f"{name}_observed": fresh.searched_Y[place, k], f"{name}_posterior_mean": mean}
            row |= {name: fresh.Y[place, k], f"{name}_low": low[place, k], f"{name}_high": high[place, k]}
        parts = fresh.scores[place]["benchmarks"].values()
        answers = sum(part["questions"] * part["repeats"] for part in parts)
        row |= {"dominated": dominated[place], "answers": answers}
        rows.append(row | {"output_tokens": round(output_tokens(fresh.scores[place]))})
    return pd.DataFrame(rows)


def read(run_dir: Path) -> pd.DataFrame | None:
    """tables/confirmed.csv; None where nothing was measured again."""
    path = run_dir / "tables" / "confirmed.csv"
    return tables.read(run_dir, "confirmed") if path.exists() else None


def spent(models: pd.DataFrame, search: str | None = None) -> tuple[int, int]:
    """Evaluations and output tokens of measuring again: of all, or of a search's models and the end points.

    The latter is what a search would have needed alone. models: tables/confirmed.csv.
    """
    # Without end points that had answered the questions before.
    new = models[models["measured_as"] != models["candidate"]]
    own = new if search is None else new[new["found_by"].isin([search, END_POINT])]
    return len(own), int(own["output_tokens"].sum())


def optimism(
    fresh: Fresh, table: pd.DataFrame, names: Sequence[str], reference_point: Sequence[float]
) -> pd.DataFrame:
    """How much better the members seemed than they are: one row a measure and way to judge.

    measure: an objective, its mean over the members, or `hypervolume` of members and end points together; judged_by:
    `observed` or `posterior` mean. `optimism` is what was promised less what was found, with a 95 % interval.
    """
    count = len(fresh.candidates) - len(fresh.sources)
    own = table[table["questions"] == fresh.kind]
    posterior = own[[f"{name}_posterior_mean" for name in names]].to_numpy(float)
    promised = {
        "observed": fresh.searched_Y,
        "posterior": np.vstack([posterior[:count], fresh.searched_Y[count:]]),
    }
    new = np.array([hypervolume(Y, reference_point) for Y in fresh.draws[:VOLUMES]])
    old = np.array([hypervolume(Y, reference_point) for Y in fresh.searched_draws[:VOLUMES]])
    # Questions are the same for what was observed and what the surrogate makes of it, and so is the error from them.
    differences = (fresh.searched_draws[:, :count] - fresh.draws[:, :count]).mean(axis=1)
    rows = []
    for judged_by, Y in promised.items():
        for k, name in enumerate(names):
            means = Y[:count, k].mean(), fresh.Y[:count, k].mean()
            rows.append(_promise(fresh, name, judged_by, *means, differences[:, k]))
        volumes = hypervolume(Y, reference_point), hypervolume(fresh.Y, reference_point)
        rows.append(_promise(fresh, "hypervolume", judged_by, *volumes, old - new))
    return pd.DataFrame(rows)


def _promise(
    fresh: Fresh, measure: str, judged_by: str, promised: float, found: float, differences: Array
) -> dict[str, Any]:
    # Normal, not by quantiles: the hypervolume of points drawn anew lies above that of the points.
    half = WIDTH * float(differences.std(ddof=1))
    gap = promised - found
    return {
        "questions": fresh.kind,
        "measure": measure,
        "judged_by": judged_by,
        "members": len(fresh.candidates) - len(fresh.sources),
        "promised": promised,
        "found": found,
        "optimism": gap,
        "optimism_low": gap - half,
        "optimism_high": gap + half,
    }


@style.styled
def figure(table: pd.DataFrame, names: Sequence[str], simulated: bool = False) -> Figure:
    """A row a kind of questions, a panel a pair of objectives: where the search saw each model, and where it is."""
    kinds, pairs = list(table["questions"].unique()), list(combinations(names, 2))
    found = style.new_figure(4.2 * len(kinds) + 0.5, simulated)
    grid = found.subplots(len(kinds), len(pairs), squeeze=False)
    for row, kind in zip(grid, kinds, strict=True):
        own = table[table["questions"] == kind]
        for axes, pair in zip(row, pairs, strict=True):
            _panel(axes, own, *pair)
        row[0].set_title(f"Measured again: {TITLES[kind]}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    found.legend(handles, labels, loc="outside lower center", ncols=4)
    return found


def _panel(axes: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    members = rows[rows["found_by"] != END_POINT]
    for row in members.to_dict("records"):
        axes.plot(
            [row[f"{x}_observed"], row[x]],
            [row[f"{y}_observed"], row[y]],
            color=style.GREY,
            linewidth=0.8,
            zorder=3,
        )
    axes.errorbar(
        members[x],
        members[y],
        xerr=_bars(members, x),
        yerr=_bars(members, y),
        fmt="o",
        color=style.BLUE,
        markersize=5,
        mew=0,
        ecolor=style.BANDS[0],
        elinewidth=1,
        label="fresh, with 95 % interval",
        zorder=5,
    )
    outline: dict[str, Any] = {"ls": "none", "mfc": "white", "mec": style.BLACK, "markersize": 5, "zorder": 4}
    axes.plot(
        members[f"{x}_observed"], members[f"{y}_observed"], "o", label="as the search observed it", **outline
    )
    axes.plot(
        members[f"{x}_posterior_mean"],
        members[f"{y}_posterior_mean"],
        "x",
        color=style.VERMILION,
        markersize=6,
        label="by posterior mean",
        zorder=6,
    )
    ends = rows[rows["found_by"] == END_POINT]
    axes.plot(ends[x], ends[y], "s", color=style.BLACK, markersize=5, label="end points")
    axes.set(xlabel=f"{x} (larger is better)", ylabel=f"{y} (larger is better)")


def _bars(rows: pd.DataFrame, name: str) -> np.ndarray:
    return np.clip([rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]], 0, None)


def _scores(run_dir: Path, id: str) -> dict[str, Any]:
    return read_scores(run_dir / "candidates" / id)


def _mean(scores: Mapping[str, Any], metric: str) -> float:
    return float(np.mean([part[metric] for part in scores["benchmarks"].values()]))
