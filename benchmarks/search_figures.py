"""Figures of the search benchmark; each says that what it shows is simulated."""

import numpy as np
import pandas as pd
from bambo.report import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from search_problems import LAYERWISE
from search_report import BUDGETS, OURS, Difference, by_seed, chosen, difference

SPACES = {8: "6 blocks, embeddings, head (D = 8)", LAYERWISE: "each layer alone (D = 38)"}
# Those that a reader looks for first; the others are grey.
SHOWN = ("bambo-robust", "layer-wise", "ap-bmm", "bambo", "nsga2", "qnehvi")
MARK = "Simulated landscapes: no model was merged or asked"


def new_figure(height: float) -> Figure:
    figure = style.new_figure(height)
    figure.suptitle(MARK, color=style.VERMILION, fontsize=11, fontweight="bold")
    return figure


@style.styled
def figure_curves(rows: pd.DataFrame) -> Figure:
    """Share of the best hypervolume of the set chosen by posterior mean, against evaluations; means over seeds.

    On the seeds that all of those drawn share, since landscapes differ.
    """
    figure = new_figure(4.6)
    drawn = set()
    looks = {
        name: style.SEARCHES[max(place - 1, 0)] for place, name in enumerate(SHOWN)
    }  # ours have one look
    for axes, dimension in zip(figure.subplots(1, 2, sharey=True), OURS, strict=True):
        space = chosen(rows, dimension=dimension)
        presets, seeds = together(space, OURS[dimension])
        space = space[space["seed"].isin(seeds) & space["preset"].isin(presets)]
        for preset, own in space.groupby("preset"):
            curve = own.groupby("n")["posterior"].agg(["mean", "count"])
            curve = curve[curve["count"] == len(seeds)]
            drawn.add(preset)
            if preset in looks:
                colour, marker = looks[str(preset)]
                axes.plot(
                    curve.index,
                    curve["mean"],
                    color=colour,
                    marker=marker,
                    markersize=4.5,
                    linewidth=1.5,
                    zorder=3,
                )
            elif preset == "model-grid":
                axes.plot(
                    curve.index, curve["mean"], color=style.BLACK, linestyle="--", linewidth=1.3, zorder=2
                )
            else:
                axes.plot(curve.index, curve["mean"], color="#b5b5b5", linewidth=1, zorder=1)
        axes.set(title=f"{SPACES[dimension]}, {len(seeds)} seeds", xlabel="evaluations")
    figure.axes[0].set_ylabel("hypervolume of the chosen set,\nshare of the best known")
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4.5, label=name)
        for name, (colour, marker) in looks.items()
        if name in drawn and name not in OURS.values()
    ]
    ours = looks[OURS[8]]
    handles.insert(
        0, Line2D([], [], color=ours[0], marker=ours[1], markersize=4.5, label=" / ".join(OURS.values()))
    )
    handles.append(Line2D([], [], color=style.BLACK, linestyle="--", label="model-grid"))
    handles.append(Line2D([], [], color="#b5b5b5", label="other searches"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def together(space: pd.DataFrame, ours: str) -> tuple[list[str], set[int]]:
    """The searches that ran on half of the seeds of ours at least, by the smaller budget; the seeds that they share."""
    last = space[space["n"] == BUDGETS[0]]
    seeds = {str(name): set(by_seed(last, name).index) for name in space["preset"].unique()}
    own = seeds.get(ours, set())
    kept = [name for name, theirs in seeds.items() if len(theirs & own) >= len(own) / 2]
    return kept, own.intersection(*(seeds[name] for name in kept))


@style.styled
def figure_differences(rows: pd.DataFrame, n: int = 48) -> Figure:
    """Paired differences of each search to ours in its space, with 95 % intervals."""
    gaps = {dimension: differences(rows, dimension, n) for dimension in OURS}
    figure = new_figure(1.4 + 0.27 * max(map(len, gaps.values())))
    for axes, (dimension, found) in zip(figure.subplots(1, 2, sharex=True), gaps.items(), strict=True):
        order = sorted(found, key=lambda name, found=found: found[name].mean)  # type: ignore[misc]
        for place, name in enumerate(order):
            gap = found[name]
            clear = gap.pairs > 1 and abs(gap.mean) > gap.half
            colour = style.GREY if not clear else style.BLUE if gap.mean > 0 else style.VERMILION
            half = gap.half if np.isfinite(gap.half) else 0.0
            axes.errorbar(gap.mean, place, xerr=half, fmt="o", color=colour, markersize=4.5, capsize=2.5)
        axes.axvline(0, color=style.BLACK, linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_yticks(range(len(order)), [f"{name} ({found[name].pairs})" for name in order])
        axes.set(
            title=SPACES[dimension], xlabel=f"less the hypervolume of {OURS[dimension]}, {n} evaluations"
        )
    return figure


def differences(rows: pd.DataFrame, dimension: int, n: int) -> dict[str, Difference]:
    last, ours = chosen(rows, dimension=dimension, n=n), OURS[dimension]
    names = [str(name) for name in last["preset"].unique() if name != ours]
    found = {name: difference(by_seed(last, name), by_seed(last, ours)) for name in names}
    return {name: gap for name, gap in found.items() if gap.pairs}
