"""The figures of a run: each function draws tables and returns a Figure, which `style.save` writes.

Those that show scores say so where these are simulated; the partition is always that of the real models.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from ..objectives import METRICS
from . import style, tables

MANY = 20  # variables from which a heat map's rows are lower
_OUTLINE: dict[str, Any] = {
    "linestyle": "none",
    "mfc": "none",
    "mec": style.BLACK,
    "mew": 0.9,
    "markersize": 9,
    "zorder": 6,
}


@style.styled
def figure_objective_space(
    observations: pd.DataFrame, pareto: pd.DataFrame, reference_point: Sequence[float]
) -> Figure:
    """All searches' models in the space of the objectives, a panel a pair, then their accuracy against other metrics.

    Objectives: models as measured, the observed front of each search, the front by posterior mean as outlines at the
    posterior means, single weights for the whole model as lines. Of two objectives the front is a stair; of more, its
    members lie inside of what two of them show. Then the same models by raw metrics.
    """
    names = tables.objective_names(observations)
    reference = dict(zip(names, reference_point, strict=True))
    metrics = [name for name in tables.raw_metrics(observations) if name != "accuracy"]
    pairs = [*combinations(names, 2), *((metric, "accuracy") for metric in metrics)]
    columns = 2 if len(pairs) <= 4 else 3
    rows = -(-len(pairs) // columns)
    figure = style.new_figure(8.2 / columns * rows + 1.1, tables.is_simulated(observations))
    panels = _panels(figure.subplots(rows, columns, squeeze=False), len(pairs))
    looks = _looks(observations)
    raw = tables.with_raw_errors(observations)

    for axes, (x, y) in zip(panels, pairs, strict=True):
        _draw_models(axes, raw, looks, x, y)
        for search in tables.shown_searches(observations):
            colour, marker = looks[search]
            observed, posterior = (
                tables.front_of(pareto, search, front) for front in ("observed", "posterior")
            )
            axes.plot(observed[x], observed[y], marker, color=colour, markersize=6, mew=0, zorder=5)
            if len(names) == 2:
                line = _stairs(observed[x], observed[y]) if x in reference else (observed[x], observed[y])
                axes.plot(*line, color=colour, linewidth=1.3, zorder=4)
            shown = (f"{name}_posterior_mean" if name in reference else name for name in (x, y))
            axes.plot(*(posterior[column] for column in shown), marker, **_OUTLINE)
        if x in reference:
            corner = reference[x], reference[y]
            axes.plot(*corner, "+", color=style.BLACK, markersize=9, mew=1.2)
            if len(names) == 2:  # of more, it may lie at an end point
                axes.annotate("reference point", corner, (6, -3), textcoords="offset points", fontsize=8)
        labels = [f"{name} (larger is better)" if name in reference else axis_title(name) for name in (x, y)]
        if columns > 2:  # narrow panels
            labels = [label.replace(" (", "\n(") for label in labels]
            axes.margins(0.14)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        if x not in reference:
            axes.set_xlim(left=0)
    panels[0].set_title("Objectives (0 = base, 1 = expert)")
    panels[len(pairs) - len(metrics)].set_title("Raw scores (means over benchmarks)")
    handles = _legend(looks, observations)
    if len(names) > 2:
        handles.append(
            Line2D([], [], color=style.BLACK, marker="+", ms=9, ls="none", label="reference point")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if len(handles) <= 9 else 4)
    return figure


@style.styled
def figure_benchmarks(observations: pd.DataFrame, pareto: pd.DataFrame) -> Figure:
    """Accuracy against output tokens of each benchmark, a panel each; fronts are those of the objectives.

    A model that is on the front may be beaten in one benchmark, which is what this figure shows.
    """
    names = tables.benchmark_names(observations)
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = style.new_figure(3.6 * rows + 0.9, tables.is_simulated(observations))
    looks = _looks(observations)
    for axes, name in zip(
        _panels(figure.subplots(rows, columns, squeeze=False), len(names)), names, strict=True
    ):
        x, y = f"{name}.tokens", f"{name}.accuracy"
        _draw_models(axes, observations, looks, x, y)
        for search in tables.shown_searches(observations):
            colour, marker = looks[search]
            observed, posterior = (
                tables.front_of(pareto, search, front) for front in ("observed", "posterior")
            )
            axes.plot(observed[x], observed[y], marker, color=colour, markersize=6, mew=0, zorder=5)
            axes.plot(posterior[x], posterior[y], marker, **_OUTLINE)
        axes.set(title=name, xlabel=axis_title("tokens"), ylabel=axis_title("accuracy"))
        axes.set_xlim(left=0)
    figure.legend(handles=_legend(looks, observations, lines=False), loc="outside lower center", ncols=3)
    return figure


def _panels(grid: np.ndarray, count: int) -> list[Axes]:
    """The first panels of a grid of them; the others are blank."""
    panels = list(grid.flatten())
    for blank in panels[count:]:
        blank.set_axis_off()
    return panels[:count]


def axis_title(metric: str) -> str:
    """What is on the axis of a raw metric."""
    if metric not in METRICS:
        return metric
    better = "more" if METRICS[metric].direction > 0 else "fewer" if metric.startswith("tokens") else "less"
    unit = METRICS[metric].unit
    if metric == "accuracy":
        return f"accuracy ({unit})"
    name = unit if metric in unit else f"{metric}: {unit}"
    return f"{name} ({better} is better)"


def _looks(observations: pd.DataFrame) -> dict[str, tuple[str, str]]:
    return style.looks(tables.search_names(observations), tables.single_weight_searches(observations))


def _draw_models(
    axes: Axes, observations: pd.DataFrame, looks: Mapping[str, tuple[str, str]], x: str, y: str
) -> None:
    ends = tables.end_points(observations)
    singles = tables.single_weight_searches(observations)
    error: dict[str, Any] = {"fmt": "none", "ecolor": style.LIGHT, "elinewidth": 0.8, "zorder": 1}
    for search, (colour, marker) in looks.items():
        rows, crowd = tables.members(observations, search), search in singles and len(singles) > 1
        if not crowd:
            axes.errorbar(rows[x], rows[y], rows[f"{y}_stderr"], rows[f"{x}_stderr"], **error)
        if crowd:  # of their methods, not all have the end points in their space
            rows = rows[~rows["candidate"].isin(ends["candidate"])]
        if search in singles and len(tables.variable_names(observations, search)) == 1:
            rows = rows.iloc[np.argsort(tables.points(rows)[:, 0], kind="stable")]
            axes.plot(rows[x], rows[y], color=colour, linewidth=0.7 if crowd else 1.2, zorder=2)
        rows = rows[~rows["candidate"].isin(ends["candidate"])]
        alpha, size = 0.9 if search in singles else 0.4, 4 if crowd else 5
        axes.plot(rows[x], rows[y], marker, color=colour, markersize=size, alpha=alpha, mew=0, zorder=3)
    axes.plot(ends[x], ends[y], "*", color=style.BLACK, markersize=11, mew=0, zorder=7)
    centre = ends[[x, y]].mean()
    for source, end in ends.iterrows():
        left, low = end[x] < centre[x], end[y] < centre[y]
        axes.annotate(
            str(source),
            (end[x], end[y]),
            (9 if left else -9, -7 if low else 7),
            textcoords="offset points",
            ha="left" if left else "right",
            va="top" if low else "bottom",
            fontweight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=8,
        )
    axes.margins(0.08)


def _stairs(x: pd.Series, y: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the boundary of what a front dominates, both coordinates being maximised."""
    order = np.argsort(x.to_numpy(float), kind="stable")
    return np.repeat(x.to_numpy(float)[order], 2)[:-1], np.repeat(y.to_numpy(float)[order], 2)[1:]


def _legend(
    looks: Mapping[str, tuple[str, str]], observations: pd.DataFrame, lines: bool = True
) -> list[Line2D]:
    """lines: whether a front of two objectives is drawn as one."""
    singles = tables.single_weight_searches(observations)
    handles = []
    for search, (colour, marker) in sorted(looks.items(), key=lambda item: item[0] in singles):
        point: dict[str, Any] = {"color": colour, "marker": marker, "mew": 0}
        if search in singles:
            said = " (one weight for the whole model)" if len(singles) == 1 else ""
            handles.append(Line2D([], [], **point, lw=1.2, label=f"{search}{said}"))
        else:
            handles.append(Line2D([], [], **point, ls="none", alpha=0.4, label=search))
        if search in tables.shown_searches(observations):
            line: dict[str, Any] = (
                {"lw": 1.3} if lines and len(tables.objective_names(observations)) == 2 else {"ls": "none"}
            )
            handles.append(Line2D([], [], **point, **line, label=f"{search}: observed front"))
    handles.append(Line2D([], [], **{**_OUTLINE, "marker": "o"}, label="outlined: front by posterior mean"))
    handles.append(Line2D([], [], color=style.BLACK, marker="*", ms=10, mew=0, ls="none", label="end points"))
    handles.append(Line2D([], [], color=style.LIGHT, label="± 1 standard error"))
    return handles


@style.styled
def figure_progress(observations: pd.DataFrame, hypervolume: pd.DataFrame) -> Figure:
    """Hypervolume, front size and best value of each objective among the merges, after every evaluation and hour.

    Horizontal lines: the set of the end points alone, and the best grid of single weights as a whole. Of several grids
    there is the end of each.
    """
    names = tables.objective_names(observations)
    titles = {"hypervolume": "Hypervolume", "front_size": "Front size (models)"}
    titles |= {f"best_{name}": f"Best {name} of a merge (0 = base, 1 = expert)" for name in names}
    unit, per_hour = style.time_unit(hypervolume["hours"].max())
    course = hypervolume.assign(hours=hypervolume["hours"] * per_hour)
    figure = style.new_figure(1.9 * len(titles) + 0.7, tables.is_simulated(observations))
    grid = figure.subplots(len(titles), 2, sharey="row", sharex="col", squeeze=False)
    for row, (column, title) in zip(grid, titles.items(), strict=True):
        for axes, x in zip(row, ("evaluations", "hours"), strict=True):
            _draw_progress(axes, observations, course, x, column)
        row[0].set_title(title)
        row[0].margins(y=0.1)
        if column.startswith("best_"):  # a value that stays where it is should look so
            low, high = row[0].get_ylim()
            row[0].set_ylim(min(low, high - 0.2), high + 0.02)
        row[0].yaxis.set_major_locator(MaxNLocator(5, integer=column == "front_size"))
    grid[-1, 0].xaxis.set_major_locator(MaxNLocator(8, integer=True))
    grid[-1, 0].set_xlabel("evaluations (models merged and scored)")
    grid[-1, 1].set_xlabel(f"{unit} of evaluation, one after the other, times GPUs")
    panels = grid.flatten()
    reference = hypervolume["reference_point"].iloc[0]
    panels[0].set_title(f"Hypervolume (reference point {reference})")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _draw_progress(
    axes: Axes, observations: pd.DataFrame, hypervolume: pd.DataFrame, x: str, column: str
) -> None:
    singles = tables.single_weight_searches(observations)
    crowd = len(singles) > 1
    for search, (colour, marker) in _looks(observations).items():
        own = hypervolume[hypervolume["search"] == search]
        only_end = crowd and search in singles
        own = own.tail(1) if only_end else own
        size, width = (6, 0) if only_end else (3.5, 1.3)
        axes.plot(own[x], own[column], color=colour, marker=marker, ms=size, lw=width, mew=0, label=search)
    for label, line in [(tables.BEST_GRID, "--"), (tables.END_POINTS, ":")]:
        for value in hypervolume.loc[hypervolume["search"] == label, column].dropna():
            axes.axhline(value, color=style.BLACK, linestyle=line, linewidth=1, label=label, zorder=1)


@style.styled
def figure_weights(observations: pd.DataFrame, pareto: pd.DataFrame, front: str = "posterior") -> Figure:
    """What is searched, each variable a row, in each model of a front (columns, by tokens).

    One panel for each search that tells parts of the model apart; `front` is "posterior" or "observed". Of two sources,
    the weight is the first one's; of more, it is named, and so are parameters of the method.
    """
    source = str(tables.end_points(observations).index[0])
    searches = tables.shown_searches(observations)
    counts = [len(tables.variable_names(observations, search)) for search in searches]
    heights = [count * (1 if count <= MANY else 0.6) + 3 for count in counts]
    figure = style.new_figure(0.4 + 0.29 * sum(heights), tables.is_simulated(observations))
    panels = figure.subplots(len(searches), 1, height_ratios=heights, squeeze=False).flatten()
    every = [name for search in searches for name in tables.variable_names(observations, search)]
    kind = {"posterior": "front by posterior mean", "observed": "observed front"}[front]
    for axes, search in zip(panels, searches, strict=True):
        members = tables.front_of(pareto, search, front)
        names = tables.variable_names(members, search)
        image = _heat_map(axes, tables.points(members).T, names)
        shown = zip(members["tokens"], members["accuracy"], members["candidate"], strict=True)
        labels = [f"{_tokens(tokens)}\n{accuracy:.2f}\n{candidate}" for tokens, accuracy, candidate in shown]
        if len(members) > 8:  # no room for candidates
            labels = [label.rpartition("\n")[0] for label in labels]
        step = -(-len(members) // 25)
        axes.set_xticks(range(0, len(members), step), labels[::step], fontsize=7.5)
        axes.set_title(f"{search}: {_searched(names, source)} in the models of its {kind}")
    panels[-1].set_xlabel("models: tokens an answer, below it accuracy")
    bar = figure.colorbar(image, ax=panels, pad=0.01, fraction=0.03, label=_searched(every, source))
    bar.outline.set_visible(False)
    return figure


def _searched(names: Sequence[str], source: str) -> str:
    """What variables of these names set."""
    return "weights and parameters" if any(": " in name for name in names) else f"weight of {source}"


def _heat_map(axes: Axes, values: np.ndarray, names: Sequence[str]) -> AxesImage:
    rows, columns = values.shape
    image = axes.imshow(values, cmap=style.SEQUENTIAL, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    small = rows > MANY or columns > 20
    if columns <= 40:
        for (row, column), value in np.ndenumerate(values):
            if np.isnan(value):  # a model outside of the search's space
                continue
            colour = "white" if value < 0.5 else style.BLACK
            size = 5.5 if small else 8
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=size)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_yticks(range(rows), names, fontsize=6.5 if rows > MANY else None)
    axes.tick_params(length=0)
    return image


def _tokens(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


@style.styled
def figure_partition(
    differences: pd.DataFrame, partitions: Mapping[str, Sequence[range]], chosen: str
) -> Figure:
    """Layer differences and the blocks that each strategy makes of them, like the paper's Figure 2.

    `differences`: one row a layer with columns `l1` and `l2`; `partitions`: strategy -> blocks as ranges of
    layers; `chosen`: the strategy of the run.
    """
    layers = len(differences)
    figure = style.new_figure(3.4 + 0.36 * len(partitions))
    ratios = [1.5, 1.5, 0.42 * len(partitions)]
    one, two, bands = figure.subplots(3, 1, sharex=True, height_ratios=ratios)
    for axes, column, title in [(one, "l1", "L1 norm"), (two, "l2", "L2 norm")]:
        axes.bar(range(layers), differences[column], color=style.SKY, width=0.8)
        axes.set_ylabel(title)
        axes.grid(visible=False, axis="x")
    one.set_title("Difference between the sources, a layer (mean over its tensors of the norm)")
    for row, (strategy, blocks) in enumerate(partitions.items()):
        for place, block in enumerate(blocks):
            colour = style.BANDS[place % len(style.BANDS)]
            bands.add_patch(
                Rectangle((block.start - 0.5, row - 0.36), len(block), 0.72, fc=colour, ec="white", lw=1.5)
            )
            text = f"{block.start}" if len(block) == 1 else f"{block.start}–{block.stop - 1}"
            if len(block) * 100 / layers >= len(text):
                bands.text(
                    (block.start + block.stop - 1) / 2, row, text, ha="center", va="center", fontsize=8
                )
        if strategy == chosen:
            bands.add_patch(Rectangle((-0.5, row - 0.4), layers, 0.8, fc="none", ec=style.BLACK, lw=1.6))
    names = [f"{name} (chosen)" if name == chosen else name for name in partitions]
    bands.set_yticks(range(len(partitions)), names)
    bands.set(ylim=(len(partitions) - 0.5, -0.5), xlim=(-0.7, layers - 0.3), xlabel="layer")
    bands.set_title("Blocks")
    bands.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    bands.grid(visible=False)
    bands.tick_params(axis="y", length=0)
    bands.spines[:].set_visible(False)
    return figure
