"""Two runs beside each other: fronts and hypervolume on one scale, and what differs between their configs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import BadInput
from ..files import read_json
from ..objectives import evaluate
from ..pareto import hypervolume, non_dominated
from ..start import RECORD
from . import confirmed, tables
from .searches import output_tokens


@dataclass(frozen=True)
class Side:
    """One of the runs. Y: objectives of the rows of `observations` [n x m], on the scale that both share."""

    folder: Path
    config: Mapping[str, Any]
    observations: pd.DataFrame  # of all that has scores: one row a search and candidate, then the end points
    Y: np.ndarray
    scores: Mapping[str, Mapping[str, Any]]
    pareto: pd.DataFrame

    def rows(self, search: str) -> np.ndarray:
        """Which rows of `observations` are a search's set: its candidates and the end points."""
        return self.observations["search"].isin([search, tables.REFERENCE]).to_numpy()

    def confirming(self, search: str) -> dict[str, str]:
        """What measuring the search's models again took, which belongs to its cost."""
        models = confirmed.read(self.folder)
        if models is None:
            return {}
        evaluations, tokens = confirmed.spent(models, search)
        return {"to confirm": f"{evaluations}, {tokens:,} tokens"}


def print_compare(one: Path, other: Path) -> None:
    """BadInput where a run has no tables yet, or where the second lacks what the first one's objectives are made of."""
    print("\n".join(lines(one, other)))


def lines(one: Path, other: Path) -> Iterator[str]:
    scale, theirs = (read_json(Path(each) / "endpoints" / "normalisation.json") for each in (one, other))
    first = tables.read(one, "pareto")
    reference = [float(value) for value in first["reference_point"].iloc[0].strip("()").split(",") if value]
    sides = [_side(Path(each), scale) for each in (one, other)]
    names = ", ".join(scale["objectives"])
    yield f"{one} and {other}; objectives {names}; reference point {tuple(reference)}"
    same = scale["objectives"] == theirs["objectives"]
    if not same:
        yield (
            f"Their end points scored differently: 0 and 1 of all objectives are those of {one}, "
            "and only observed fronts can be compared."
        )
    yield from ("", *_differences(*sides), "", *_searches(sides, list(scale["objectives"]), reference, same))
    yield from ("", *_front(sides))


def _side(folder: Path, scale: Mapping[str, Any]) -> Side:
    variables = {
        path.parent.name: read_json(path)["variables"]
        for path in sorted(folder.glob("search/*/variables.json"))
    }
    pareto = tables.read(folder, "pareto")
    run = tables.read_run(folder, variables)
    found = tables.observations(run)
    given = found["origin"].str.startswith("end point: ") | (found["search"] != tables.REFERENCE)
    found = found[(found["status"] == "ok") & given].reset_index(drop=True)
    missing = {
        name
        for spec in scale["objectives"].values()
        for name in spec["benchmarks"]
        if name not in next(iter(run.scores.values())).get("benchmarks", {name: None})
    } - {""}
    if missing:
        raise BadInput(
            f"{folder}: has no scores of {', '.join(sorted(missing))}, of which the other run's objectives are made; "
            "compare runs with the same benchmarks"
        )
    Y = evaluate([run.scores[candidate] for candidate in found["candidate"]], scale).Y
    return Side(folder, read_json(folder / RECORD)["config"], found, Y, run.scores, pareto)


def _differences(one: Side, other: Side) -> Iterator[str]:
    """Dotted keys of the configs, as they were written, whose values differ."""
    left, right = _flat(one.config), _flat(other.config)
    keys = [key for key in {**left, **right} if left.get(key) != right.get(key) and key != "run"]
    if not keys:
        yield "Their configs say the same."
        return
    shown = [(key, *(str(each.get(key, "(default)")) for each in (left, right))) for key in keys]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    yield f"What differs in their configs ({one.folder} | {other.folder}):"
    for key, *values in shown:
        yield f"  {key:{widths[0]}}  {values[0]:{widths[1]}} | {values[1]}"


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _searches(
    sides: Sequence[Side], names: Sequence[str], reference: Sequence[float], same: bool
) -> Iterator[str]:
    rows = []
    for side in sides:
        for search in tables.search_names(side.observations):
            inside = side.rows(search)
            own, Y = side.observations[inside], side.Y[inside]
            asked = own.loc[own["search"] == search, "candidate"].unique()
            chosen = side.pareto[(side.pareto["search"] == search) & (side.pareto["front"] == "posterior")]
            means = chosen[[f"{name}_posterior_mean" for name in names]].to_numpy(float) if same else None
            rows.append(
                {
                    "run": str(side.folder),
                    "search": search,
                    "evaluations": len(asked),
                    "output tokens": f"{sum(output_tokens(side.scores[each]) for each in asked):,.0f}",
                    "front": int(non_dominated(Y).sum()),
                    "hypervolume": f"{hypervolume(Y, reference):.4f}",
                    **side.confirming(search),
                    "of the chosen set": "-" if means is None else f"{hypervolume(means, reference):.4f}",
                }
            )
    yield from pd.DataFrame(rows).fillna("-").to_string(index=False).splitlines()


def _front(sides: Sequence[Side]) -> Iterator[str]:
    """The observed front of both together, in order of tokens."""
    Y = np.vstack([side.Y for side in sides])
    rows = pd.concat([side.observations.assign(run=str(side.folder)) for side in sides], ignore_index=True)
    rows = rows[non_dominated(Y)].drop_duplicates(["run", "candidate"])
    runs = rows.groupby("candidate")["run"].agg(lambda own: " and ".join(dict.fromkeys(own)))
    rows = rows.drop_duplicates("candidate").sort_values(["tokens", "candidate"])
    yield "Observed front of both together:"
    table = rows[["candidate", "accuracy", "tokens"]].assign(run=rows["candidate"].map(runs))
    yield from table.to_string(
        index=False, formatters={"accuracy": "{:.3f}".format, "tokens": "{:,.1f}".format}
    ).splitlines()
    for side in sides:
        count = sum(str(side.folder) in run for run in runs)
        yield f"{count} of these {len(runs)} are of {side.folder}"
