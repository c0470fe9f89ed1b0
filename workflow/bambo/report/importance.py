"""Figure of the importance of the layers and of what it was made of; it is always that of the real models."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..checkpoint import ATTENTION, EMBEDDINGS, HEAD, MLP, without_module
from . import style

MARKERS = {ATTENTION: (style.VERMILION, "^"), MLP: (style.BLACK, "o")}


@style.styled
def figure_importance(importance: pd.DataFrame, weights: Mapping[str, float]) -> Figure:
    """Both discrepancies and their importance, by depth; where modules have their own, as marks beside their layer's.

    importance: of `importance.tables`; weights: of parameters and activations.
    """
    layers = importance[importance["granularity"] == "layer"]
    modules = importance[importance["granularity"] == "module"]
    groups = layers["group"].tolist()
    total = weights["parameters"] + weights["activations"]
    shares = {name: f", weight {weight / total:.2g}" for name, weight in weights.items()}
    panels = [("parameters", "‖R − B‖ / ‖B‖", f"Parameters: relative L2 difference{shares['parameters']}")]
    if layers["activations"].notna().any():
        text = f"Hidden states behind each part: mean over the prompts{shares['activations']}"
        panels.append(("activations", "1 − cosine", text))
    panels.append(("importance", "importance", "Importance: squashed, fused, smoothed along the layers"))
    figure = style.new_figure(1.75 * len(panels) + 0.4)
    for axes, (column, label, title) in zip(
        figure.subplots(len(panels), 1, sharex=True), panels, strict=True
    ):
        colour = style.BLUE if column == "importance" else style.SKY
        axes.bar(range(len(groups)), layers[column].fillna(0), color=colour, width=0.8)
        axes.set_title(title)
        axes.set_ylabel(label)
        axes.grid(visible=False, axis="x")
        marks = [] if column == "activations" else _mark_modules(axes, modules, groups, column)
    axes.set_ylim(0, 1.05)
    if layers["importance"].isna().all():
        axes.text(
            0.5, 0.5, "the sources differ equally in all parts: no importance, searches go without",
            transform=axes.transAxes, ha="center", va="center",
        )  # fmt: skip
    if marks:
        layer = Patch(color=style.BLUE, label="a layer as a whole")
        figure.legend(handles=[layer, *marks], loc="outside lower center", ncols=3)
    axes.set_xlim(-0.7, len(groups) - 0.3)
    axes.set_xlabel("layer")
    shown = [place for place, group in enumerate(groups) if _shown(group, len(groups))]
    axes.set_xticks(shown, [_short(groups[place]) for place in shown])
    return figure


def _mark_modules(axes: Axes, modules: pd.DataFrame, groups: list[str], column: str) -> list[Line2D]:
    """A mark for attention and MLP of each layer, where there are any."""
    marks = []
    for module, (colour, marker) in MARKERS.items():
        rows = modules[modules["group"].str.endswith(f".{module}")]
        if len(rows):
            places = [groups.index(without_module(group)) for group in rows["group"]]
            name = "its MLP alone" if module == MLP else f"its {module} alone"
            look: dict[str, Any] = {
                "color": colour,
                "markersize": 5.5,
                "mec": "white",
                "mew": 0.8,
                "label": name,
            }
            marks += axes.plot(places, rows[column], marker, **look)
    return marks


def _shown(group: str, count: int) -> bool:
    """Of many layers, every other one has its number, but for the first, which is next to the embeddings."""
    if group in (EMBEDDINGS, HEAD) or count <= 24:
        return True
    layer = int(group.removeprefix("layers."))
    return layer > 0 and layer % 2 == 0


def _short(group: str) -> str:
    return {EMBEDDINGS: "emb.", HEAD: "head"}.get(group, group.removeprefix("layers."))
