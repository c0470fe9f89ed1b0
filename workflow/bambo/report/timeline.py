"""When each evaluation of a run ran, and how long places for them were idle."""

import heapq
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..candidate.attempts import Attempts
from . import style, tables

COLUMNS = ["place", "candidate", "search", "began", "ended", "status"]
END_POINTS = "end points"
MANY = 40  # places from which their rows are lower


def timeline(run_dir: Path, run: tables.Run, observations: pd.DataFrame) -> pd.DataFrame:
    """One row an evaluation, and one each attempt that failed: COLUMNS; hours since the first one began.

    status: `ok`, or the kind of the failure. place: each takes the first one that is free, as a queue would have it;
    which GPU it was is not recorded. Evaluations of versions that kept no times are left out.
    """
    searches = observations.drop_duplicates("candidate").set_index("candidate")["search"]
    found = []
    for candidate, scores in run.scores.items():
        if scores["status"] == "ok" and "ended" in scores:
            found.append((candidate, scores["ended"] - scores["seconds"], scores["ended"], "ok"))
        attempts = Attempts(run_dir / "candidates" / candidate)
        found += [(candidate, began, ended, kind) for began, ended, kind in attempts.failed_evaluations]
    frame = pd.DataFrame(found, columns=["candidate", "began", "ended", "status"]).sort_values(
        ["began", "ended"]
    )
    frame["search"] = frame["candidate"].map(searches).replace(tables.REFERENCE, END_POINTS)
    first = frame["began"].min()
    for column in ("began", "ended"):
        frame[column] = (frame[column] - first) / 3600
    frame["place"] = places(frame["began"].to_numpy(float), frame["ended"].to_numpy(float))
    return frame[COLUMNS].reset_index(drop=True)


def places(began: np.ndarray, ended: np.ndarray) -> list[int]:
    """The first free place of each of some intervals, in the order of their beginnings."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    found = []
    for start, stop in zip(began, ended, strict=True):
        while busy and busy[0][0] <= start + 1e-9:
            heapq.heappush(free, heapq.heappop(busy)[1])
        place = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (stop, place))
        found.append(place)
    return found


def idle(rows: pd.DataFrame) -> float:
    """Share of the time of all places, from the first beginning to the last end, in which nothing was evaluated."""
    span = (rows["ended"].max() - rows["began"].min()) * rows["place"].nunique()
    return float(1 - (rows["ended"] - rows["began"]).sum() / span) if span > 0 else 0.0


@style.styled
def figure(rows: pd.DataFrame, simulated: bool = False) -> Figure:
    """A row a place, a bar an evaluation in its search's colour; white is idle time, hatched is what failed."""
    count = max(rows["place"].nunique(), 1)
    found = style.new_figure(1.7 + (0.32 if count <= MANY else 0.12) * count, simulated)
    axes = found.subplots()
    if rows.empty:
        axes.set_axis_off()
        axes.set_title("No times of evaluations are recorded")
        return found
    searches = [name for name in dict.fromkeys(rows["search"]) if name != END_POINTS]
    colours = {name: colour for name, (colour, _) in style.looks(searches, []).items()}
    colours[END_POINTS] = style.BLACK
    end = rows["ended"].max()
    unit, per_hour = style.time_unit(end)
    well: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.4}
    badly: dict[str, Any] = {
        "facecolor": "white",
        "edgecolor": style.VERMILION,
        "linewidth": 0.8,
        "hatch": "////",
    }
    for row in rows.to_dict("records"):
        looks = {"facecolor": colours[row["search"]], **well} if row["status"] == "ok" else badly
        corner = row["began"] * per_hour, row["place"] - 0.4
        axes.add_patch(Rectangle(corner, (row["ended"] - row["began"]) * per_hour, 0.8, **looks))
    for name, colour in colours.items():
        if (rows["search"] == name).any():
            axes.add_patch(Rectangle((0, 0), 0, 0, facecolor=colour, label=name))
    if (rows["status"] != "ok").any():
        axes.add_patch(Rectangle((0, 0), 0, 0, label="failed attempt", **badly))
    axes.set(
        xlim=(0, end * per_hour * 1.005),
        ylim=(count - 0.4, -0.6),
        xlabel=f"{unit} since the first evaluation began",
    )
    axes.set_ylabel("places")
    labels = [str(place + 1) for place in range(count)]
    axes.set_yticks(np.arange(count), labels if count <= MANY else [""] * count)
    axes.set_title(f"{len(rows)} evaluations; places idle {idle(rows):.0%} of the time")
    axes.grid(visible=False, axis="y")
    found.legend(loc="outside lower center", ncols=5)
    return found
