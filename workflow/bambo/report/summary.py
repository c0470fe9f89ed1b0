"""What a user reads in the terminal: one line an iteration, and the Pareto front at the end."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from textwrap import shorten, wrap
from typing import Any

import numpy as np
import pandas as pd

from ..files import read_json
from ..pareto import hypervolume as hypervolume_of
from ..search.stopping import budget, planned_evaluations
from . import fronts, tables

_WIDTH = 110  # columns of the terminal
_SIMULATED = "SIMULATED: all scores are made up (evaluation.engine: simulated); no model was merged or asked"
_FRONTS = {"posterior": "front by posterior mean", "observed": "observed front"}


def progress_line(
    observations: pd.DataFrame,
    search: str,
    planned: int,
    reference_point: Sequence[float],
    pace: float | None = None,
) -> str:
    """Where a search stands after its last evaluated iteration, in one line.

    The gain is what this iteration added to the hypervolume. `pace` is the wall time of an evaluation in seconds, jobs
    side by side counted in; without it the time left is not said.
    """
    rows = observations[observations["search"].isin([search, tables.REFERENCE])]
    course = fronts.hypervolume(rows, reference_point)
    start = course.loc[course["search"] == tables.END_POINTS, "hypervolume"].item()
    course = course[course["search"] == search]
    mark = "SIMULATED: " if tables.is_simulated(rows) else ""
    if course.empty:
        return f"{mark}{search}: 0 of {planned} evaluations"
    last = course.iloc[-1]
    before = course.loc[course["iteration"] < last["iteration"], "hypervolume"]
    gain = last["hypervolume"] - (start if before.empty else before.iloc[-1])

    own = rows[rows["search"] == search]
    parts = [
        f"{last['evaluations']} of {planned} evaluations",
        f"hypervolume {last['hypervolume']:.4f} ({gain:+.4f})",
        f"front of {last['front_size']}",
    ]
    remaining = planned - last["evaluations"]
    if remaining > 0 and pace is not None:
        parts.append(f"about {duration(pace * remaining)} left")
    return f"{mark}{search}, iteration {last['iteration']}: " + ", ".join(parts + _troubles(own))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _troubles(rows: pd.DataFrame) -> list[str]:
    models = rows.drop_duplicates("candidate")
    cut, failed = tables.truncated(models).sum(), (models["status"] == "failed").sum()
    texts = []
    if cut:
        texts.append(f"{cut} with over {tables.TRUNCATED_LIMIT:.0%} of answers truncated")
    if failed:
        texts.append(f"{failed} failed")
    return texts


def print_progress(
    run_dir: Path | str,
    search: str,
    settings: Mapping[str, Any],
    reference_point: Sequence[float],
    before: int | None = None,
) -> None:
    """Print `progress_line` of a search as its files stand, or stood when iteration `before` was proposed.

    BadInput where a candidate that was to be evaluated by then has no scores; of an asynchronous search some are under
    way until its end.
    """
    run_dir = Path(run_dir)
    variables = read_json(run_dir / "search" / search / "variables.json")["variables"]
    run = tables.read_run(run_dir, {search: variables})
    if before is None or settings["schedule"] == "sync":
        tables.check_scored(run, {search: budget(settings) if before is None else before - 1})
    observations = tables.observations(run)
    if before is not None:
        observations = observations[observations["iteration"].fillna(0) < before]
    planned = planned_evaluations(settings)
    pace = _pace(run_dir / "search" / search / "proposals")
    print(progress_line(observations, search, planned, reference_point, pace), flush=True)


def _pace(proposals: Path) -> float | None:
    """Wall seconds an evaluation: the median over proposals, so that a pause between two runs does not count."""
    paths = sorted(proposals.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    sizes = [len(read_json(path)["candidates"]) for path in paths]
    spans = np.diff([path.stat().st_mtime for path in paths])
    # A stop that was decided under a smaller budget asked for nothing.
    paces = [span / size for span, size in zip(spans, sizes[:-1], strict=True) if size]
    return float(np.median(paces)) if paces else None


def print_run(run_dir: Path | str) -> None:
    """Print `front_text` of a finished run, and what `confirm` found; BadInput where its tables are not there."""
    run_dir = Path(run_dir)
    text = front_text(
        tables.read(run_dir, "observations"),
        tables.read(run_dir, "pareto"),
        tables.read(run_dir, "hypervolume"),
        tables.read(run_dir, "comparison"),
        tables.read(run_dir, "selection"),
        read_json(run_dir / "endpoints/normalisation.json")["warnings"],
        run_dir,
    )
    print(text)
    if (run_dir / "tables" / "optimism.csv").exists():
        print("", *confirm_lines(tables.read(run_dir, "optimism")), sep="\n")


def confirm_lines(promises: pd.DataFrame) -> list[str]:
    """What the search had promised of the models that were measured again, and what was found; tables/optimism.csv."""
    rows = [["Measured again", "judged", "promised", "found", "optimism (95 % interval)"]]
    for row in promises.to_dict("records"):
        ends = f"{row['optimism_low']:+.3f} to {row['optimism_high']:+.3f}"
        rows.append(
            [
                f"  {row['measure']}, {row['questions']}",
                row["judged_by"],
                *(f"{row[column]:.3f}" for column in ("promised", "found")),
                f"{row['optimism']:+.3f} ({ends})",
            ]
        )
    return [*_aligned(rows), f"  ({promises['members'].iloc[0]} models, one by one: tables/confirmed.csv)"]


def front_text(
    observations: pd.DataFrame,
    pareto: pd.DataFrame,
    hypervolume: pd.DataFrame,
    comparison: pd.DataFrame,
    selection: pd.DataFrame,
    gaps: Sequence[str],
    run_dir: Path,
    front: str = "posterior",
) -> str:
    """Pareto fronts, hypervolumes, searches side by side, chosen models, warnings and where to look, for a terminal.

    `gaps`: the warnings of the normalisation; `front`: "posterior" or "observed". The fronts of searches with
    the same weights for the whole model are listed only where there are no other searches.
    """
    parts = [[_SIMULATED]] if tables.is_simulated(observations) else []
    for search in tables.shown_searches(observations):
        title = f"Pareto front of search {search}: {_FRONTS[front]} (* on the observed front, too)"
        parts.append([title, "", *_front_lines(observations, pareto, search, front)])
    parts.append(_hypervolume_lines(observations, pareto, hypervolume))
    if comparison["search"].nunique() > 2 or comparison["method"].eq("").any():
        parts.append(_comparison_lines(comparison))
    if len(selection):
        parts.append(_selection_lines(observations, selection))
    warnings = [*gaps, *_warnings(observations)]
    if warnings:
        lines = [wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ") for text in warnings]
        parts.append(["Warnings", *chain.from_iterable(lines)])
    exported = (Path(run_dir) / "models").exists()
    parts.append(
        [
            "Where to look",
            f"  {run_dir}/front.html   the models in a page, to choose one by what you need: open it in a browser",
            f"  {run_dir}/report.html  what was searched and found, with all figures",
            f"  {run_dir}/tables       every number (their columns: results/README.md)",
            f"  {run_dir}/figures      objectives, progress, weights, partition",
            f"  {run_dir}/models       "
            + ("chosen models, ready to serve" if exported else "after: snakemake export"),
        ]
    )
    return "\n\n".join("\n".join(lines) for lines in parts)


def _front_lines(observations: pd.DataFrame, pareto: pd.DataFrame, search: str, front: str) -> list[str]:
    ends = tables.end_points(observations)
    source = str(ends.index[0])
    called = {candidate: f" {name}" for name, candidate in ends["candidate"].items()}
    own = tables.with_raw_errors(pareto[pareto["search"] == search])
    observed = set(own.loc[own["front"] == "observed", "candidate"])
    members = own[own["front"] == front]
    names = tables.variable_names(own, search)
    shown, objectives = _shown(observations), tables.objective_names(observations)
    heads = ["  candidate", *shown]
    cells = [
        [
            f"{'*' if row['candidate'] in observed else ' '} {row['candidate']}{called.get(row['candidate'], '')}",
            f"{row['accuracy']:.3f} ± {row['accuracy_stderr']:.3f}",
            *(_number(row[key], key in objectives) for key in shown[1:]),
        ]
        for row in members.to_dict("records")
    ]
    x = tables.points(members)
    kinds = [name.partition(": ")[2] for name in names]  # "" is the weight of the first of two sources
    if set(kinds) == {""}:
        blocks = [re.sub("layers? ", "", name) for name in names]
        lines = _aligned(
            [heads + blocks, *([*row, *map(_cell, ws)] for row, ws in zip(cells, x, strict=True))]
        )
        if len(lines[0]) <= _WIDTH:
            # Above the columns of the weights, what they are weights of.
            offset = len(_aligned([heads, *cells])[0]) + 2
            return [" " * offset + f"weight of {source} in: layers by number", *lines]
        columns = {"lowest": x.min(axis=1), "mean": x.mean(axis=1), "highest": x.max(axis=1)}
        what = f"weights of {source} over {len(names)} variables"
    else:
        own_columns = {kind: [each == kind for each in kinds] for kind in dict.fromkeys(kinds)}
        columns = {kind or source: x[:, places].mean(axis=1) for kind, places in own_columns.items()}
        what = "means over the parts of the model"
    spans = [[*map(_cell, row)] for row in np.array([*columns.values()]).T]
    lines = _aligned([[*heads, *columns], *(a + b for a, b in zip(cells, spans, strict=True))])
    if len(lines[0]) > _WIDTH:
        lines = _aligned([heads, *cells])
    return [*lines, f"({what}; all of them: tables/pareto.csv)"]


def _cell(value: float) -> str:
    """A weight or a parameter; nothing for a model outside of the search's space."""
    return "" if np.isnan(value) else f"{value:.2f}"


def _hypervolume_lines(
    observations: pd.DataFrame, pareto: pd.DataFrame, hypervolume: pd.DataFrame
) -> list[str]:
    reference = hypervolume["reference_point"].iloc[0]
    corner = [float(part) for part in reference.strip("()").split(",")]
    means = [f"{name}_posterior_mean" for name in tables.objective_names(observations)]

    def believed(search: str) -> float:
        members = pareto[(pareto["search"] == search) & (pareto["front"] == "posterior")]
        return hypervolume_of(members[means], corner)

    last = hypervolume.groupby("search", sort=False).last()
    singles = tables.single_weight_searches(observations)
    rows = [["", "evaluations", "observed", "by posterior mean"]]
    for search, row in last.iterrows():
        if search in singles:
            continue
        counted = "" if search == tables.END_POINTS else f"{row['evaluations']}"
        mean = ""
        if search == tables.BEST_GRID:
            mean = f"{max(map(believed, singles)):.4f}"
        elif search != tables.END_POINTS:
            mean = f"{believed(str(search)):.4f}"
        rows.append([f"  {search}", counted, f"{row['hypervolume']:.4f}", mean])
    return [
        f"Hypervolume above the reference point {reference}; end points count everywhere",
        *_aligned(rows),
    ]


def _comparison_lines(comparison: pd.DataFrame) -> list[str]:
    rows = [["", "method", "weights of a", "evaluations", "hypervolume", "front", "of all"]]
    left_out = []
    for search, own in comparison.groupby("search", sort=False):
        first = own.iloc[0]
        if not first["method"]:
            left_out += wrap(
                f"{search}: {first['reason']}", _WIDTH, initial_indent="  ", subsequent_indent="    "
            )
            continue
        counts = [own["variables"].ne("").sum(), own["union_front"].sum()]
        figures = [f"{first['evaluations']}", f"{first['hypervolume']:.4f}", *map(str, counts)]
        rows.append([f"  {search}", first["method"], first["granularity"], *figures])
    return [
        "Searches side by side; merges on the observed front of each, and how many are on that of all together",
        *_aligned(rows),
        *left_out,
        "  (the merges: tables/comparison.csv)",
    ]


def _shown(observations: pd.DataFrame) -> list[str]:
    """Columns that tell models apart: raw metrics, and where these are fewer than the objectives, the objectives."""
    raw, names = tables.raw_metrics(observations), tables.objective_names(observations)
    return raw + (names if len(raw) < len(names) else [])


def _number(value: float, normalised: bool) -> str:
    """0.831, 36.4, 1,234.5, 8.1e+12; three decimals of what is normalised."""
    if normalised:
        return f"{value:.3f}"
    return f"{value:,.1f}" if 1 <= abs(value) < 1e6 else f"{value:.3g}"


def _selection_lines(observations: pd.DataFrame, selection: pd.DataFrame) -> list[str]:
    shown, objectives = _shown(observations), tables.objective_names(observations)
    rows = [["Chosen models", "candidate", *shown]]
    for row in selection.to_dict("records"):
        figures = [f"{row['accuracy']:.3f}", *(_number(row[key], key in objectives) for key in shown[1:])]
        rows.append([f"  {row['name']}", row["candidate"], *figures])
    return [*_aligned(rows), "  (why: tables/selection.csv)"]


def _warnings(observations: pd.DataFrame) -> list[str]:
    models = observations.drop_duplicates("candidate")
    texts = []
    cut = models[tables.truncated(models)]
    if len(cut):
        texts.append(
            f"{len(cut)} of {len(models)} models: over {tables.TRUNCATED_LIMIT:.0%} of answers truncated, "
            "which biases the objectives; raise evaluation.max_tokens"
        )
    failed = models[models["status"] == "failed"]
    for candidate, reason in zip(failed["candidate"], failed["reason"], strict=True):
        texts.append(f"candidate {candidate} failed: {shorten(reason, 70, placeholder=' ...')}")
    return texts


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Cells in columns two blanks apart; the first column begins together, the others end together."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
