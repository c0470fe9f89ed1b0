"""One style for all figures: Okabe-Ito colours, markers that differ in grey, equal bytes for equal data.

Colours: M. Okabe, K. Ito, Color Universal Design (2008), https://jfly.uni-koeln.de/color/.
"""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ..files import atomic

BLACK, GREY, LIGHT = "#000000", "#666666", "#d0d0d0"
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY = "#e69f00", "#56b4e9"
BANDS = ["#8cc4e6", "#f3c98b", "#8fd3bd", "#e6b8d0", "#f2e9a0", "#c9c9c9"]  # paler, for text upon them
SEQUENTIAL = "cividis"  # its lightness grows evenly, for colour-blind readers and in grey
LINES = ListedColormap(mpl.colormaps[SEQUENTIAL](np.linspace(0, 0.88, 256)))  # without what fades on white

# A search of the same weights for the whole model is grey squares; several of them take markers of their own and paler
# colours in turn, of which no two agree in both before 42. Other searches take these in turn.
SINGLE = (GREY, "s")
SINGLES = (
    ["#8a8a8a", "#5ab4a0", "#b08fc7", "#c9a13b", "#7fb2d9", "#d48a8a"],
    ["s", "d", "<", ">", "p", "h", "8"],
)
SEARCHES = [(BLUE, "o"), (VERMILION, "^"), (GREEN, "D"), (PURPLE, "v"), (ORANGE, "P"), (SKY, "X")]

WIDTH = 9.0  # inches: 648 pt as SVG, so that letters have their size on a page 900 px wide
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#ededed",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",  # legible on a dark page, too
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # letters as outlines: the same wherever it is shown
    "svg.hashsalt": "bambo",  # ids of the SVG's elements do not change from run to run
}
# As a decorator: the function's figure is drawn in this style, whatever the user's matplotlibrc says.
styled = mpl.rc_context(STYLE)


def new_figure(height: float, simulated: bool = False) -> Figure:
    """An empty figure of the common width and `height` inches; no display and no pyplot state is needed.

    Where the scores that it shows are simulated, its headline says so.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    if simulated:
        figure.suptitle("SIMULATED: all scores are made up", color=VERMILION, fontsize=14, fontweight="bold")
    return figure


UNITS = {"hours": 1, "minutes": 60, "seconds": 3600}  # a longer unit where there are two of it


def time_unit(hours: float) -> tuple[str, int]:
    """The unit in which to show so many hours, and how many of it an hour has."""
    return next(
        ((name, each) for name, each in UNITS.items() if hours * each >= 2), ("seconds", UNITS["seconds"])
    )


def looks(searches: Sequence[str], single: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each search; `single`: those of the same weights for the whole model."""
    blocks = [search for search in searches if search not in single]
    turns = {search: SEARCHES[place % len(SEARCHES)] for place, search in enumerate(blocks)}
    if len(single) == 1:
        return {search: turns.get(search, SINGLE) for search in searches}
    pairs = zip(cycle(SINGLES[0]), cycle(SINGLES[1]), strict=False)
    return turns | dict(zip(single, pairs, strict=False))


@styled
def save(figure: Figure, path: Path) -> None:
    """Save as SVG, or as what the suffix says; whole or not at all; equal figures give equal bytes."""
    with atomic(path) as temporary:
        kind = Path(path).suffix.removeprefix(".")
        figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else None, dpi=100)
