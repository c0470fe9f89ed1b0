"""What the records of the search benchmark show: shares of the best hypervolume, paired differences, tables of them.

Hypervolumes are noise-free ones of the returned sets, as shares of the best known: on landscapes that of all 38
variables, for coarser spaces too, so that spaces can be compared. Differences are paired by seed, which is a landscape,
its questions and a search; their intervals are Student's t.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from bambo.files import read_json, write_json
from landscape import VERSION
from scipy.stats import t as student
from search_problems import FUNCTIONS, LANDSCAPE, LAYERWISE, problem
from search_runs import Cell

BEST = Path("results/benchmarks/search/best.json")
BUDGETS = (48, 88)
NOISE = 0.25
# The same settings in two spaces, with which the others of the space are compared.
OURS = {8: "bambo-robust", LAYERWISE: "layer-wise"}
# Of each space the searches that differ there: `layer-wise` is `bambo-robust` in the space of layers.
SHARED = (
    *("model-grid", "sobol", "nsga2", "moead", "cma-es", "motpe", "map", "mm-mo"),
    *("qnehvi", "ap-bmm", "momm", "bambo"),
)
SEARCHES = {8: ("bambo-robust", *SHARED), 38: ("layer-wise", *SHARED, "ap-bmm-published")}
PAPER = "bambo"
SETTING = ["problem", "noise", "workers", "strategy", "full", "first_share", "changes"]


class Difference(NamedTuple):
    """Mean of paired differences, half the width of its 95 % interval, number of pairs."""

    mean: float
    half: float
    pairs: int

    def __str__(self) -> str:
        if self.pairs < 2:
            return f"{self.mean:+.3f}" if self.pairs else "-"
        return f"{self.mean:+.3f} ± {self.half:.3f}"


def difference(values: pd.Series, others: pd.Series) -> Difference:
    """Of two series by seed, over the seeds that both have."""
    gaps = (values - others).dropna().to_numpy()
    if len(gaps) < 2:
        return Difference(float(gaps.mean()) if len(gaps) else np.nan, np.inf, len(gaps))
    half = student.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return Difference(float(gaps.mean()), float(half), len(gaps))


def frame(records: Mapping[Cell, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run and look: the cell's fields, n, shares of the best known hypervolume, simulated hours."""
    best = best_known(records)
    found = []
    for cell, record in records.items():
        fields = {key: value for key, value in vars(cell).items() if key not in ("changes", "constants")}
        fields["changes"] = ", ".join(f"{key}: {value}" for key, value in [*cell.changes, *cell.constants])
        fields["first_share"] = cell.first_share or 1.0
        costs = {key: record[key] for key in ("cpu_per_proposal", "utilisation")}
        costs |= {"tokens": record.get("tokens", np.nan), "left": record.get("left", 0)}  # of the whole run
        for look in record["looks"]:
            # The first part of a finer grid is no whole grid; that of any other search is what a shorter one returns.
            if cell.preset == "model-grid" and look["n"] in BUDGETS and look["n"] != cell.budget:
                continue
            shares = {key: look[key] / best[scale(cell)] for key in ("observed", "posterior", "claimed")}
            found.append({**fields, **costs, **shares, "n": look["n"], "hours": look["clock"] / 3600})
    table = pd.DataFrame(found)
    if table.empty:
        return table
    same = ["preset", "dimension", "seed", "n", *SETTING]
    return table.sort_values("budget", kind="stable").drop_duplicates(same).reset_index(drop=True)


def scale(cell: Cell) -> str:
    """What a cell's hypervolumes are shares of: the best known of a landscape's layers, or of a test function."""
    if cell.problem == LANDSCAPE:
        return f"{LANDSCAPE} {VERSION}, seed {cell.seed}"
    return f"{cell.problem}, D = {cell.dimension}"


def best_known(records: Mapping[Cell, Mapping[str, Any]]) -> dict[str, float]:
    """The best known hypervolume of each scale; searched for once, and never below what a run returned."""
    kept: dict[str, float] = read_json(BEST) if BEST.exists() else {}
    for cell, record in records.items():
        name = scale(cell)
        if name not in kept:
            dimension = LAYERWISE if cell.problem == LANDSCAPE else cell.dimension
            kept[name] = problem(cell.problem, dimension, cell.seed).best()
        kept[name] = max(
            kept[name], *(look[key] for look in record["looks"] for key in ("observed", "posterior"))
        )
    BEST.parent.mkdir(parents=True, exist_ok=True)
    write_json(BEST, kept)
    return kept


def chosen(rows: pd.DataFrame, **fields: Any) -> pd.DataFrame:
    """Rows of these fields; of a field that is not given, those of the benchmark's main setting."""
    usual = {
        "problem": LANDSCAPE,
        "noise": NOISE,
        "workers": 4,
        "strategy": "hybrid",
        "full": False,
        "first_share": 1.0,
        "changes": "",
    }
    for name, value in {**usual, **fields}.items():
        rows = rows[rows[name] == value]
    return rows


def by_seed(rows: pd.DataFrame, preset: str, column: str = "posterior") -> pd.Series:
    return rows[rows["preset"] == preset].set_index("seed")[column]


def main_table(rows: pd.DataFrame, dimension: int, n: int) -> list[str]:
    """The searches of a space after n evaluations, by their paired difference to ours, best first."""
    space = chosen(rows, dimension=dimension)
    last = space[space["n"] == n]
    ours = OURS[dimension]
    gaps = {
        str(preset): difference(by_seed(last, str(preset)), by_seed(last, ours))
        for preset in set(last["preset"])
    }
    order = sorted((name for name in gaps if gaps[name].pairs), key=lambda name: (-gaps[name].mean, name))
    lines = [
        "| search | seeds | observed set | chosen set | less that of "
        + f"`{ours}`"
        + " | what the observed set claims "
        f"| evaluations until `{PAPER}` at {n} | hours, 4 workers | utilisation | CPU s a proposal |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for preset in order:
        own = last[last["preset"] == preset]
        means = own[["observed", "posterior", "claimed", "hours", "utilisation", "cpu_per_proposal"]].mean()
        lines.append(
            f"| {preset} | {len(own)} | {means['observed']:.3f} | {spread(own['posterior'])} "
            f"| {'' if preset == ours else gaps[preset]} | {means['claimed']:.3f} | {reached(space, preset, n)} "
            f"| {means['hours']:.1f} | {means['utilisation']:.2f} | {means['cpu_per_proposal']:.2f} |"
        )
    return lines


def spread(values: pd.Series) -> str:
    """Mean and its standard error."""
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def reached(space: pd.DataFrame, preset: str, n: int) -> str:
    """Evaluations until the mean share of the chosen set is that of the paper's preset after n, on the same seeds."""
    final = by_seed(space[space["n"] == n], PAPER)
    own = space[(space["preset"] == preset) & (space["n"] <= n) & space["seed"].isin(final.index)]
    # A row a number of evaluations; those that not all of the seeds were looked at after are left out.
    looks = own.pivot_table(index="n", columns="seed", values="posterior")
    if n not in looks.index:
        return "-"
    looks = looks.dropna(axis=1, subset=[n])
    curve = looks.dropna().mean(axis=1)
    target = final[looks.columns].mean()
    above = np.flatnonzero(curve.to_numpy() >= target)
    if not len(above):
        return f"> {n}"
    place = int(above[0])
    if place == 0:
        return f"≤ {curve.index[0]}"
    low, high = curve.iloc[place - 1], curve.iloc[place]
    left, right = curve.index[place - 1], curve.index[place]
    return f"{left + (right - left) * (target - low) / (high - low):.0f}"


def pair_table(rows: pd.DataFrame, pairs: Iterable[tuple[str, int, str, int]], n: int) -> list[str]:
    """Paired differences of searches, each of a preset and a space."""
    lines = ["| search | less that of | seeds | chosen set | observed set |", "|---|---|---|---|---|"]
    for preset, dimension, other, space in pairs:
        own, base = (chosen(rows, dimension=each, n=n) for each in (dimension, space))
        gaps = [
            difference(by_seed(own, preset, key), by_seed(base, other, key))
            for key in ("posterior", "observed")
        ]
        lines.append(
            f"| {preset}, D = {dimension} | {other}, D = {space} | {gaps[0].pairs} | {gaps[0]} | {gaps[1]} |"
        )
    return lines


def cross_tables(rows: pd.DataFrame, columns: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Every search under several settings after 48 evaluations: mean share of the chosen set, and less that of ours."""
    settings = {name: chosen(rows, n=48, **fields) for name, fields in columns}
    settings = {name: own for name, own in settings.items() if len(own)}
    if not settings:
        return []

    def table(cell: Callable[[pd.DataFrame, str], str], presets: Iterable[str]) -> list[str]:
        lines = [f"| search | {' | '.join(settings)} |", "|---" * (len(settings) + 1) + "|"]
        for preset in presets:
            lines.append(f"| {preset} | {' | '.join(cell(own, preset) for own in settings.values())} |")
        return lines

    presets = dict.fromkeys(preset for own in settings.values() for preset in sorted(set(own["preset"])))
    ours = sorted({OURS[fields["dimension"]] for _, fields in columns})
    less = f"Less that of {' or '.join(f'`{name}`' for name in ours)}, paired, 95 % intervals:"
    rivals = [preset for preset in presets if preset not in ours]
    return [*table(_share, presets), "", less, "", *table(_gap, rivals)]


def _share(own: pd.DataFrame, preset: str) -> str:
    values = by_seed(own, preset)
    return f"{values.mean():.3f} ({len(values)})" if len(values) else ""


def _gap(own: pd.DataFrame, preset: str) -> str:
    gap = difference(by_seed(own, preset), by_seed(own, OURS[own["dimension"].iloc[0]]))
    return str(gap) if gap.pairs else ""


def function_tables(rows: pd.DataFrame, dimension: int) -> list[str]:
    return cross_tables(
        rows, [(name, {"problem": name, "noise": 0.0, "dimension": dimension}) for name in FUNCTIONS]
    )


def ablation_table(rows: pd.DataFrame, n: int) -> list[str]:
    """Partitions: by strategy and number of blocks, `bambo-robust` in each, against 6 hybrid blocks."""
    found = rows[(rows["preset"] == "bambo-robust") & (rows["problem"] == LANDSCAPE) & (rows["n"] == n)]
    found = found[(found["noise"] == NOISE) & (found["workers"] == 4) & ~found["full"]]
    found = found[(found["first_share"] == 1) & (found["changes"] == "")]
    base = found[(found["strategy"] == "hybrid") & (found["dimension"] == 8)].set_index("seed")["posterior"]
    lines = [
        "| blocks | strategy | D | seeds | chosen set | less that of 6 hybrid blocks |",
        "|---" * 6 + "|",
    ]
    groups = found.groupby(["dimension", "strategy"])
    for _, own in groups:
        dimension, strategy = own[["dimension", "strategy"]].iloc[0]
        values = own.set_index("seed")["posterior"]
        usual = (dimension, strategy) == (8, "hybrid")
        lines.append(
            f"| {dimension - 2} | {strategy} | {dimension} | {len(own)} | {spread(values)} "
            f"| {'' if usual else difference(values, base)} |"
        )
    layers = by_seed(chosen(rows, dimension=LAYERWISE, n=n), "layer-wise")
    if len(layers):
        lines.append(
            f"| 36 | each layer | {LAYERWISE} | {len(layers)} | {spread(layers)} | {difference(layers, base)} |"
        )
    return lines if groups.ngroups > 1 else []


def workers_table(rows: pd.DataFrame, n: int = BUDGETS[-1]) -> list[str]:
    """Simulated wall-clock of the searches that ran at 16 workers, beside that at 4 on the same seeds."""
    lines = [
        "| search | D | workers | seeds | hours | utilisation | chosen set | less that at 4 workers |",
        "|---" * 8 + "|",
    ]
    wide = chosen(rows, workers=16, n=n)
    for (dimension, preset), there in wide.groupby(["dimension", "preset"]):
        here = chosen(rows, dimension=dimension, n=n)
        here = here[(here["preset"] == preset) & here["seed"].isin(there["seed"])]
        there = there[there["seed"].isin(here["seed"])]
        gap = difference(by_seed(there, str(preset)), by_seed(here, str(preset)))
        for workers, own, shown in ((4, here, ""), (16, there, gap)):
            if len(own):
                lines.append(
                    f"| {preset} | {dimension} | {workers} | {len(own)} | {own['hours'].mean():.1f} "
                    f"| {own['utilisation'].mean():.2f} | {spread(own['posterior'])} | {shown} |"
                )
    return lines if len(lines) > 2 else []


def full_table(rows: pd.DataFrame, n: int = 48) -> list[str]:
    """What the cheaper acquisition settings of the benchmark cost."""
    lines = [
        "| search | D | seeds | chosen set, presets' own | benchmark's less presets' own "
        "| CPU s a proposal, own | benchmark's |",
        "|---" * 7 + "|",
    ]
    for dimension, preset in OURS.items():
        own, cheap = (chosen(rows, dimension=dimension, n=n, full=full) for full in (True, False))
        values, others = by_seed(own, preset), by_seed(cheap, preset)
        if len(values):
            costs = [by_seed(each, preset, "cpu_per_proposal").mean() for each in (own, cheap)]
            lines.append(
                f"| {preset} | {dimension} | {len(values)} | {spread(values)} | {difference(others, values)} "
                f"| {costs[0]:.2f} | {costs[1]:.2f} |"
            )
    return lines if len(lines) > 2 else []


def staged_table(rows: pd.DataFrame, n: int = 48) -> list[str]:
    """What a first share of the questions saves, and what it costs, against all questions at once."""
    lines = [
        "| search | D | noise | first share | leave | seeds | chosen set, less that of all questions at once "
        "| observed set | generated tokens, share | left of {n} | hours, share |".replace("{n}", str(n)),
        "|---" * 11 + "|",
    ]
    rows = rows[(rows["n"] == n) & (rows["budget"] == n)]
    staged = rows[rows["first_share"] < 1]
    groups = staged.groupby(["dimension", "preset", "noise", "first_share", "changes"])
    for (dimension, preset, noise, share, changes), own in groups:
        base = chosen(rows, dimension=dimension, noise=noise)
        base = base[base["preset"] == preset].set_index("seed")
        own = own.set_index("seed")
        own = own[own.index.isin(base.index)]
        if own.empty:  # what to compare with has not run yet
            continue
        gaps = [difference(own[key], base[key]) for key in ("posterior", "observed")]
        ratios = [f"{own[key].mean() / base.loc[own.index, key].mean():.2f}" for key in ("tokens", "hours")]
        lines.append(
            f"| {preset} | {dimension} | {noise:g} | {share:g} | {str(changes).removeprefix('leave: ')} "
            f"| {gaps[0].pairs} | {gaps[0]} | {gaps[1]} | {ratios[0]} | {own['left'].mean():.0f} | {ratios[1]} |"
        )
    return lines if len(lines) > 2 else []


def trial_table(rows: pd.DataFrame, n: int = 48) -> list[str]:
    """What was tried for defaults: each change against the preset as it is."""
    if rows.empty:
        return []
    found = rows[(rows["problem"] == LANDSCAPE) & (rows["noise"] == NOISE) & (rows["n"] == n)]
    lines = [
        "| preset | change | D | seeds | chosen set | less the preset's | observed set, less the preset's |",
        "|---" * 7 + "|",
    ]
    # The preset as it is stands before its changes.
    for _, own in found.groupby(["dimension", "preset", "changes"]):
        preset, dimension, changes = own[["preset", "dimension", "changes"]].iloc[0]
        base = found[
            (found["preset"] == preset) & (found["dimension"] == dimension) & (found["changes"] == "")
        ]
        gaps = [
            difference(by_seed(own, preset, key), by_seed(base, preset, key))
            for key in ("posterior", "observed")
        ]
        shown = ["", ""] if not changes else [str(gap) for gap in gaps]
        lines.append(
            f"| {preset} | {changes or 'as it is'} | {dimension} | {len(own)} | {spread(own['posterior'])} "
            f"| {shown[0]} | {shown[1]} |"
        )
    return lines if len(lines) > 2 else []
