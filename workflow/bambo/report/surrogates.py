"""How far each search's surrogate can be trusted, and which variables it finds to matter for what."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..objectives import evaluate
from ..space import importance, unit, weights
from . import style, tables

COVERED = 1.96  # standard deviations: 95 % of a normal distribution


def surrogates(
    run: tables.Run, observations: pd.DataFrame, settings: Mapping[str, Mapping[str, Any]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave-one-out predictions of each search's own models, and the share of each variable in distances.

    The first has a row a search, objective and candidate: `observed`, `predicted` by the surrogate that knows all
    others (with the lengthscales fitted to all), `sd` of that, observation noise included. The second has a row a
    search, objective and variable: `lengthscale` and `relevance`, 1 / lengthscale^2 as a share of the objective's sum.
    Searches with fewer than three models have no rows.
    """
    # Here, not above: BoTorch takes seconds to import.
    from ..search.surrogate import fit, leave_one_out, lengthscales

    names = tables.objective_names(observations)
    checks, relevances = [], []
    for search in tables.search_names(observations):
        rows = observations[(observations["search"] == search) & (observations["status"] == "ok")]
        variables, own = run.variables[search], settings[search]
        if len(rows) < 3:
            continue
        values = evaluate([run.scores[id] for id in rows["candidate"]], run.normalisation, own["noise_share"])
        X = unit(tables.points(rows), variables)
        model = fit(X, values.Y, values.repeat_variance, own, importance(variables), weights(variables))
        mean, sd = leave_one_out(model)
        scales = lengthscales(model)[:, : len(variables)]  # without that of the mean weight
        shares = scales**-2 / (scales**-2).sum(axis=1, keepdims=True)
        for k, name in enumerate(names):
            columns = {"observed": values.Y[:, k], "predicted": mean[:, k], "sd": sd[:, k]}
            checks.append(
                pd.DataFrame({"search": search, "objective": name, "candidate": rows["candidate"], **columns})
            )
            parts = {"lengthscale": scales[k], "relevance": shares[k]}
            labels = [variable["name"] for variable in variables]
            relevances.append(
                pd.DataFrame({"search": search, "objective": name, "variable": labels, **parts})
            )
    return (
        _joined(checks, ["search", "objective", "candidate", "observed", "predicted", "sd"]),
        _joined(relevances, ["search", "objective", "variable", "lengthscale", "relevance"]),
    )


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


@style.styled
def figure(checks: pd.DataFrame, relevances: pd.DataFrame, simulated: bool = False) -> Figure:
    """A row a search: predicted against observed for each objective, then the relevance of each variable.

    Searches of one variable have a row only where there are no others.
    """
    counts = relevances.groupby("search", sort=False)["variable"].nunique()
    # Of a single variable there is nothing to tell apart.
    searches = list(counts[counts > 1].index if (counts > 1).any() else counts.index)
    names = list(checks["objective"].unique())
    found = style.new_figure(2.9 * max(len(searches), 1) + 0.4, simulated)
    if not searches:
        found.suptitle("No search has three models yet", fontsize=10)
        return found
    grid = found.subplots(len(searches), len(names) + 1, squeeze=False)
    for row, search in zip(grid, searches, strict=True):
        own = checks[checks["search"] == search]
        for axes, name, (colour, marker) in zip(row, names, style.SEARCHES, strict=False):
            part = own[own["objective"] == name]
            axes.errorbar(
                part["observed"],
                part["predicted"],
                COVERED * part["sd"],
                fmt=marker,
                color=colour,
                markersize=3.5,
                mew=0,
                ecolor=style.LIGHT,
                elinewidth=0.8,
            )
            ends = [part["observed"].min(), part["observed"].max()]
            axes.plot(ends, ends, color=style.BLACK, linewidth=0.8)
            inside = (part["observed"] - part["predicted"]).abs() <= COVERED * part["sd"]
            axes.set(title=f"{search}: {name}\n{inside.sum()} of {len(part)} within 95 %", xlabel="observed")
        row[0].set_ylabel("predicted from all others")
        _bars(row[-1], relevances[relevances["search"] == search], names)
    return found


def _bars(axes: Any, rows: pd.DataFrame, names: list[str]) -> None:
    labels = list(rows["variable"].unique())
    height = 0.8 / len(names)
    for place, (name, (colour, _)) in enumerate(zip(names, style.SEARCHES, strict=False)):
        own = rows[rows["objective"] == name]["relevance"]
        axes.barh(np.arange(len(labels)) + place * height, own, height, color=colour, label=name)
    axes.set(
        title="what matters for what", xlabel="share of 1 / lengthscale²", ylim=(len(labels) - 0.3, -0.6)
    )
    few = labels if len(labels) <= 16 else [label if i % 4 == 0 else "" for i, label in enumerate(labels)]
    axes.set_yticks(np.arange(len(labels)) + 0.4 - height / 2, few, fontsize=7.5)
    axes.legend(fontsize=7.5)
    axes.grid(visible=False, axis="y")
