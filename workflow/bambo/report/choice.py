"""Figures of the front as something to choose from: preferences, granularities, and every model's weights as a line."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ..pareto import non_dominated
from ..selection import picks
from . import style, tables
from .fronts import judged, to_choose_from

LABELLED = 12  # models from which their ids would cover each other


@style.styled
def figure_preferences(
    observations: pd.DataFrame,
    pareto: pd.DataFrame,
    *,
    front: str,
    divisions: int,
    nearest: int,
    limits: Mapping[str, Mapping[str, float]],
) -> Figure:
    """The front of all searches, the preference vectors as rays from its worst corner, and the model each one picks.

    A panel each pair of objectives; of more than two, rays are not drawn, since a panel shows two of their weights.
    """
    names = tables.objective_names(observations)
    rows = judged(to_choose_from(observations, pareto, front), names, front)
    chosen = picks(rows, names, divisions, nearest, limits)
    ids = list(dict.fromkeys(candidate for _, candidate in chosen))
    places = rows.set_index("candidate")[names]
    corner, width = places.min(), places.max() - places.min()
    figure, panels = _pairs(observations)
    colours = {id: style.LINES(place / max(len(ids) - 1, 1)) for place, id in enumerate(ids)}
    for axes, x, y in panels:
        axes.plot(places[x], places[y], "o", color=style.LIGHT, ms=6, mew=0, zorder=2)
        for vector, id in chosen if len(names) == 2 else []:
            end = corner + vector / vector.max() * width
            axes.plot([corner[x], end[x]], [corner[y], end[y]], color=colours[id], lw=1, zorder=1)
            axes.plot(
                [end[x], places.loc[id, x]],
                [end[y], places.loc[id, y]],
                ":",
                color=style.GREY,
                lw=0.8,
                zorder=1,
            )
        for id in ids:
            point: Any = (places.loc[id, x], places.loc[id, y])
            mark: dict[str, Any] = {"color": colours[id], "mec": style.BLACK, "mew": 0.8, "ms": 8}
            axes.plot(*point, "o", **mark, ls="none", label=id, zorder=3)
            if len(panels) == 1 and len(ids) <= LABELLED:
                axes.annotate(id, point, (7, 5), textcoords="offset points", fontsize=7)
        axes.margins(0.1)
    if len(panels) > 1 and len(ids) <= LABELLED:  # no room beside the points
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.axes[0].set_title(f"{len(chosen)} preferences pick {len(ids)} of {len(rows)} models")
    return figure


@style.styled
def figure_granularities(
    observations: pd.DataFrame, pareto: pd.DataFrame, granularities: Mapping[str, str]
) -> Figure:
    """The observed fronts of what was searched as a whole, block by block, layer by layer (the paper's Figure 1).

    granularities: search -> granularity. Searches of the same one are taken together; so are end points with each.
    """
    names = tables.objective_names(observations)
    groups: dict[str, list[str]] = {}
    for search, granularity in granularities.items():
        groups.setdefault(granularity, []).append(search)
    figure, panels = _pairs(observations)
    observed = pareto[pareto["front"] == "observed"]
    for (granularity, searches), (colour, marker) in zip(groups.items(), style.SEARCHES, strict=False):
        rows = observed[observed["search"].isin(searches)].drop_duplicates("candidate")
        rows = rows[non_dominated(rows[names].to_numpy(float))]
        for axes, x, y in panels:
            own = rows.sort_values(x)
            drawn: dict[str, Any] = {"color": colour, "marker": marker, "ms": 6, "mew": 0}
            line = {"drawstyle": "steps-pre", "lw": 1.2} if len(names) == 2 else {"ls": "none"}
            label = f"{granularity} ({', '.join(searches)}): {len(rows)} models"
            axes.plot(own[x], own[y], **drawn, **line, label=label)
    ends = tables.end_points(observations)
    for axes, x, y in panels:
        axes.plot(ends[x], ends[y], "*", color=style.BLACK, ms=11, mew=0, ls="none", zorder=7)
    figure.axes[0].set_title("Observed fronts by what has a weight of its own")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return figure


def _pairs(observations: pd.DataFrame) -> tuple[Figure, list[tuple[Axes, str, str]]]:
    """A figure with a panel each pair of objectives: axes, and which objective is across and which up."""
    pairs = list(combinations(tables.objective_names(observations), 2))
    figure = style.new_figure(4.6 if len(pairs) == 1 else 3.6, tables.is_simulated(observations))
    grid = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (x, y) in zip(grid, pairs, strict=True):
        axes.set(xlabel=f"{x} (larger is better)", ylabel=f"{y} (larger is better)")
    return figure, [(axes, *pair) for axes, pair in zip(grid, pairs, strict=True)]


@style.styled
def figure_parallel(observations: pd.DataFrame, pareto: pd.DataFrame, front: str = "posterior") -> Figure:
    """Every model of a front as a line over what is searched and what came of it, a panel a search.

    Colours are those of the first objective, so that it can be seen which weights go with what.
    """
    names = tables.objective_names(observations)
    searches = tables.shown_searches(observations)
    figure = style.new_figure(0.5 + 2.9 * len(searches), tables.is_simulated(observations))
    panels = figure.subplots(len(searches), 1, squeeze=False).flatten()
    for axes, search in zip(panels, searches, strict=True):
        rows = judged(tables.front_of(pareto, search, front), names, front)
        variables = tables.variable_names(rows, search)
        values = rows[names].to_numpy(float)
        scale = Normalize(values[:, 0].min(), values[:, 0].max())
        for x, y in zip(tables.points(rows), values, strict=True):
            colour = style.LINES(scale(y[0]))
            axes.plot(range(len(x) + len(y)), [*x, *y], color=colour, lw=1.3, alpha=0.9)
        axes.axvline(len(variables) - 0.5, color=style.GREY, lw=0.8)
        few = len(variables) <= 16
        labels = [name if few or place % 4 == 0 else "" for place, name in enumerate(variables)]
        turned = 0 if len(variables) <= 8 else 40
        axes.set_xticks(range(len(variables) + len(names)), [*labels, *names], fontsize=7.5, rotation=turned)
        if turned:
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.set(ylim=(min(-0.05, float(values.min()) - 0.02), max(1.05, float(np.max(values)) + 0.02)))
        axes.set_title(
            f"{search}: {len(rows)} models of its front, weights on the left, objectives on the right"
        )
        bar = figure.colorbar(ScalarMappable(scale, style.LINES), ax=axes, pad=0.01, label=names[0])
        bar.outline.set_visible(False)
    return figure


def searched_granularities(searches: pd.DataFrame) -> dict[str, str]:
    """Search -> granularity, from tables/searches.csv; those of all seeds."""
    own = searches[searches["statistic"] == ""]
    return dict(zip(own["search"], own["granularity"], strict=True))
