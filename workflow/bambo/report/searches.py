"""The searches side by side: what each found and what it cost, as if it had run alone; means over seeds.

Searches of a run share their evaluations, so that the run's own clock says nothing of any of them. What a search would
have taken alone is reckoned: its candidates, in the order in which it asked for them, each go to the first slot that is
free, for the seconds that their evaluation took. A synchronous search waits for the end of each iteration. Proposals,
merges and the scheduler take no time there.
"""

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from ..candidate.work import SIMULATED
from ..pareto import added_hypervolume, non_dominated
from ..pareto import hypervolume as hypervolume_of
from . import style
from .tables import ALL, Run, end_points, is_simulated, objective_names, search_names

SECONDS = 3600  # of an hour
# Numbers of a search that make a mean and a standard deviation over its seeds.
NUMBERS = [
    *[
        "evaluations",
        "failed",
        "left",
        "evaluations_total",
        "output_tokens",
        "hypervolume",
        "hypervolume_posterior",
    ],
    *["front_size", "coverage", "largest_gap", "hours_reckoned", "utilisation"],
]


@dataclass(frozen=True)
class Reckoned:
    """What a search would have evaluated alone, in the order in which it asked for it, and when.

    candidates: all of its own; new: which of them the search that it starts from had not evaluated; finish: hour of
    the end of each, after the start of the search that was first; known, begun: evaluations of the searches before it,
    and the hour of their end; busy, slots, hours: hours of evaluation, evaluations at a time, and hours of its own.
    """

    candidates: list[str]
    new: list[bool]
    finish: list[float]
    known: int
    begun: float
    busy: float
    slots: int
    hours: float

    @property
    def utilisation(self) -> float:
        """Share of the slots' time in which they evaluate."""
        return self.busy / (self.slots * self.hours) if self.hours else np.nan


def list_schedule(durations: Sequence[float], slots: int, start: float = 0.0) -> list[float]:
    """When each job ends where each, in turn, begins on the first slot that is free; all are at `start`."""
    free, ends = [start] * slots, list[float]()
    for duration in durations:
        ends.append(heapq.heappop(free) + duration)
        heapq.heappush(free, ends[-1])
    return ends


def reckon(run: Run, settings: Mapping[str, Mapping[str, Any]], search: str) -> Reckoned:
    """The search on its slots, after the one that it starts from, whose evaluations it need not make again."""
    own, coarser = settings[search], settings[search]["start_from"]
    known, before = set[str](), 0.0
    if coarser is not None:
        first = reckon(run, settings, coarser)
        known, before = _evaluated(run, settings, coarser), max(first.finish, default=0.0)
    slots = own["slots"] or own["batch_size"]
    batches = [
        [id for id in proposal["candidates"] if id in run.scores] for proposal in run.proposals[search]
    ]
    if own["schedule"] == "async":
        batches = [[id for batch in batches for id in batch]]
    finish, candidates, seconds, now = list[float](), list[str](), list[float](), before
    for batch in batches:
        durations = [0.0 if id in known else (run.scores[id].get("seconds") or 0.0) / SECONDS for id in batch]
        finish += list_schedule(durations, slots, now)
        candidates += batch
        seconds += durations
        now = max(finish, default=now)
    return Reckoned(
        candidates=candidates,
        new=[id not in known for id in candidates],
        finish=finish,
        known=len(known),
        begun=before,
        busy=sum(seconds),
        slots=slots,
        hours=now - before,
    )


def _evaluated(run: Run, settings: Mapping[str, Mapping[str, Any]], search: str) -> set[str]:
    """What a search and those that it starts from have evaluated."""
    own = {id for proposal in run.proposals[search] for id in proposal["candidates"] if id in run.scores}
    coarser = settings[search]["start_from"]
    return own if coarser is None else own | _evaluated(run, settings, coarser)


def output_tokens(scores: Mapping[str, Any]) -> float:
    """Tokens that a candidate generated; 0 for one that failed, of which they are not known."""
    rows = scores.get("benchmarks", {}).values()
    return sum(row["tokens"] * row["questions"] * row["repeats"] for row in rows)


def curves(
    run: Run,
    observations: pd.DataFrame,
    settings: Mapping[str, Mapping[str, Any]],
    reference_point: Sequence[float],
) -> pd.DataFrame:
    """Hypervolume of each search's set as its candidates come in, one row each, in the order of the reckoned clock.

    The first row of a search is that of the end points, which belong to every set. Evaluations and hours are those of
    the searches that it starts from, too. A failed candidate counts, and changes nothing.
    """
    names = objective_names(observations)
    values = observations[observations["status"] == "ok"].drop_duplicates("candidate").set_index("candidate")
    given = end_points(observations)[names].to_numpy(float)
    groups, rows = group_names(settings), []
    for search in search_names(observations):
        found, front = reckon(run, settings, search), given[non_dominated(given)]
        volume, count = hypervolume_of(front, reference_point), found.known
        rows.append((groups[search], search, count, found.begun, volume))
        for place in np.argsort(found.finish, kind="stable"):
            candidate = found.candidates[place]
            count += found.new[place]
            if candidate in values.index:
                point = values.loc[candidate, names].to_numpy(float)
                volume += max(added_hypervolume(point, front, reference_point), 0.0)
                front = np.vstack([front, point])
                front = front[non_dominated(front)]
            rows.append((groups[search], search, count, found.finish[place], volume))
    return pd.DataFrame(
        rows, columns=["group", "search", "evaluations_total", "hours_reckoned", "hypervolume"]
    )


def table(
    run: Run,
    observations: pd.DataFrame,
    pareto: pd.DataFrame,
    settings: Mapping[str, Mapping[str, Any]],
    presets: Mapping[str, str],
    reference_point: Sequence[float],
) -> pd.DataFrame:
    """One row a search (`statistic` empty), then mean and standard deviation of each group of several seeds.

    settings: search -> its flat settings; presets: search -> its preset. Columns: see results/README.md.
    """
    names, groups = objective_names(observations), group_names(settings)
    means = [f"{name}_posterior_mean" for name in names]
    union = _volume(pareto, ALL, "observed", names, reference_point)
    left, rows = set(observations.loc[observations["status"] == "left", "candidate"]), []
    for search in search_names(observations):
        own, reckoned = settings[search], reckon(run, settings, search)
        asked = set(reckoned.candidates)
        every = _evaluated(run, settings, search)
        front = pareto[(pareto["search"] == search) & (pareto["front"] == "observed")]
        volume = _volume(pareto, search, "observed", names, reference_point)
        rows.append(
            {
                "group": groups[search],
                "search": search,
                "statistic": "",
                "preset": presets[search],
                **{key: own[key] for key in ("granularity", "method", "optimiser", "schedule")},
                "start_from": own["start_from"] or "",
                "slots": reckoned.slots,
                "seed": own["seed"],
                "evaluations": len(asked),
                "failed": sum(run.scores[id]["status"] != "ok" for id in asked),
                "left": len(asked & left),
                "evaluations_total": len(every),
                "output_tokens": round(sum(output_tokens(run.scores[id]) for id in every)),
                "hypervolume": volume,
                "hypervolume_posterior": _volume(pareto, search, "posterior", means, reference_point),
                "front_size": len(front),
                "coverage": volume / union if union else np.nan,
                "largest_gap": largest_gap(front[names].to_numpy(float)),
                "hours_reckoned": reckoned.begun + reckoned.hours,
                "utilisation": reckoned.utilisation,
            }
        )
    frame = pd.DataFrame([*rows, *_over_seeds(pd.DataFrame(rows))])
    return frame.assign(warning=SIMULATED if is_simulated(observations) else "")


def _over_seeds(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation (n - 1) of each group's numbers, where it has several searches."""
    for group, own in rows.groupby("group", sort=False):
        if len(own) == 1:
            continue
        shared: dict[str, Any] = {str(key): value for key, value in own.iloc[0].items()}
        shared |= {"search": group, "seed": None, "start_from": ""}
        for statistic, values in (("mean", own[NUMBERS].mean()), ("sd", own[NUMBERS].std(ddof=1))):
            yield shared | {"statistic": statistic, **dict(zip(NUMBERS, values, strict=True))}


def _volume(
    pareto: pd.DataFrame, search: str, front: str, columns: list[str], reference: Sequence[float]
) -> float:
    rows = pareto[(pareto["search"] == search) & (pareto["front"] == front)]
    return hypervolume_of(rows[columns].to_numpy(float), reference)


def largest_gap(front: np.ndarray) -> float:
    """The longest step that leads from member to member of a front [n x m] by the shortest steps there are.

    That is the longest edge of their minimum spanning tree: of two objectives, the largest distance of neighbours.
    NaN for a single one.
    """
    points = np.unique(front, axis=0)
    return float(minimum_spanning_tree(cdist(points, points)).max()) if len(points) > 1 else np.nan


def group_names(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The group of each search: those that differ in the seed alone, and in what their seed makes of `start_from`.

    A group is called like its searches without their seeds, where these end their names, else like the first of them.
    """
    keys: dict[str, str] = {}

    def key(search: str) -> str:
        if search not in keys:
            own = dict(settings[search])
            del own["seed"]
            start = own["start_from"]
            keys[search] = json.dumps(own | {"start_from": start and key(start)}, sort_keys=True)
        return keys[search]

    members: dict[str, list[str]] = {}
    for search in settings:
        members.setdefault(key(search), []).append(search)
    found: dict[str, str] = {}
    for own in members.values():
        stems = {search.removesuffix(f"-{settings[search]['seed']}") for search in own}
        taken = any(stem in settings for stem in stems)
        name = stems.pop() if len(own) > 1 and len(stems) == 1 and not taken else own[0]
        found |= dict.fromkeys(own, name)
    return {search: found[search] for search in settings}


def first_seeds(frame: pd.DataFrame, searches: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table without those of searches of which another seed stands before them in searches.csv."""
    rows = searches[searches["statistic"] == ""]
    return frame[~frame["search"].isin(rows.loc[rows.duplicated("group"), "search"])]


# ------------------------------------------------------------------------------------------------------- figure

PANELS = {
    "evaluations_total": "evaluations (models merged and scored)",
    "hours_reckoned": "{unit}, reckoned for each search alone on its slots",
}


@style.styled
def figure(searches: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Hypervolume against evaluations, and against the reckoned clock: a line a group of searches.

    Of several seeds the line is the mean, and the band reaches from the lowest to the highest.
    """
    rows = searches[searches["statistic"] == ""]
    groups = list(rows["group"].unique())
    single = [group for group in groups if (rows.loc[rows["group"] == group, "granularity"] == "model").all()]
    drawn = style.new_figure(4.2, bool((searches["warning"] == SIMULATED).any()))
    panels = drawn.subplots(1, 2, sharey=True)
    unit, per_hour = style.time_unit(curves["hours_reckoned"].max())
    factors = {"evaluations_total": 1, "hours_reckoned": per_hour}
    for axes, (column, label) in zip(panels, PANELS.items(), strict=True):
        for group, (colour, marker) in style.looks(groups, single).items():
            x, values = _stairs(curves[curves["group"] == group], column)
            x = x * factors[column]
            lines = len(values)
            name = group if lines == 1 else f"{group} ({lines} seeds)"
            every = max(1, len(x) // 10)
            axes.step(
                x, values.mean(axis=0), where="post", color=colour, marker=marker, ms=4, mew=0, lw=1.3,
                markevery=every, label=name, zorder=3,
            )  # fmt: skip
            if lines > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(x, low, high, step="post", color=colour, alpha=0.18, lw=0, zorder=1)
        axes.set_xlabel(label.format(unit=unit))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=column == "evaluations_total"))
        axes.margins(y=0.08)
    panels[0].set_title("Hypervolume of what was found so far")
    panels[0].set_ylabel("hypervolume")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawn


def _stairs(curves: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Where any of the searches has a step [t], and the hypervolume of each there [searches x t].

    From where all have begun, to where the last one ends: one that ended before stays as it is.
    """
    own = [rows for _, rows in curves.groupby("search", sort=False)]
    begin = max(rows[column].iloc[0] for rows in own)
    x = np.unique(np.concatenate([[begin], curves.loc[curves[column] >= begin, column]]))
    heights = []
    for rows in own:
        places = np.searchsorted(rows[column].to_numpy(float), x, side="right") - 1
        heights.append(rows["hypervolume"].to_numpy(float)[places])
    return x, np.array(heights)
