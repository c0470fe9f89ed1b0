"""Which models of a front to deploy (section 3.4): one a preference, and the best of each benchmark."""

import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .errors import BadInput

COLUMNS = ["name", "candidate", "reason", "preference", "export"]


class Choice(NamedTuple):
    """One reason to choose the candidate in `row` of a front."""

    row: int
    kind: str  # "preference", "own" (preference), or "best" (of a benchmark)
    label: str  # the preference's weights, the user's name for it, or the benchmark's name
    fit: float  # cosine between preference and scaled objectives


def select(
    front: pd.DataFrame,
    objectives: Sequence[str],
    benchmarks: Sequence[str],
    divisions: int = 10,
    nearest: int = 3,
    limits: Mapping[str, Mapping[str, float]] | None = None,
    preferences: Mapping[str, Sequence[float]] | None = None,
) -> pd.DataFrame:
    """Choose models of a front; one row a chosen model: name, candidate, reason, preference, export.

    front: one row a candidate, with the columns "candidate", the objectives (maximised; observed or posterior
    means), "<benchmark>.accuracy" and whatever the limits name. Objectives are scaled over the whole front, then
    candidates outside the limits are left out. For every Das-Dennis preference vector, among the `nearest` candidates
    by cosine between preference and scaled objectives, the one with the largest mean scaled objective is chosen; then
    the most accurate one on every benchmark, and one for each of the user's own preferences, name -> a weight for each
    objective, chosen likewise. "export" counts from 1 in the order in which to export, spread over the
    front.
    An empty frame and a warning where no candidate is within the limits; BadInput for a limit on a metric
    that was not recorded.
    """
    inside = excess(front, limits or {}) == 0
    feasible = front[inside]
    if feasible.empty:
        warnings.warn(f"selection: {nearest_to_limits(front, limits or {})}", stacklevel=2)
        return pd.DataFrame(columns=COLUMNS)
    scaled = scale(front[list(objectives)].to_numpy(dtype=np.float64))[inside]
    grid = {
        "-".join(f"{weight:.3g}" for weight in own): own for own in das_dennis(len(objectives), divisions)
    }
    choices = _by_preference(scaled, grid, nearest, "preference")
    choices += _by_preference(scaled, preferences or {}, nearest, "own")
    choices += _by_benchmark(feasible, scaled, benchmarks)
    chosen = list(dict.fromkeys(choice.row for choice in choices))
    rows = pd.DataFrame([_merge([choice for choice in choices if choice.row == row]) for row in chosen])
    rows["candidate"] = feasible["candidate"].to_numpy()[chosen]
    rows["export"] = np.argsort(spread(scaled[chosen])) + 1
    return rows[COLUMNS]


def picks(
    front: pd.DataFrame,
    objectives: Sequence[str],
    divisions: int,
    nearest: int,
    limits: Mapping[str, Mapping[str, float]],
) -> list[tuple[NDArray[np.float64], str]]:
    """Every Das-Dennis preference vector with the candidate that `select` takes for it; none within no limits."""
    inside = excess(front, limits) == 0
    scaled = scale(front[list(objectives)].to_numpy(dtype=np.float64))[inside]
    vectors = das_dennis(len(objectives), divisions)
    if not inside.any():
        return []
    chosen = _by_preference(scaled, {str(vector): vector for vector in vectors}, nearest, "preference")
    candidates = front["candidate"].to_numpy()[inside]
    return [(vector, candidates[choice.row]) for vector, choice in zip(vectors, chosen, strict=True)]


CLOSE = 0.01  # of accuracy: as good as the best


def needs(
    front: pd.DataFrame,
    objectives: Sequence[str],
    benchmarks: Sequence[str],
    nearest: int = 3,
    limits: Mapping[str, Mapping[str, float]] | None = None,
    preferences: Mapping[str, Sequence[float]] | None = None,
    tokens: float | None = None,
) -> pd.DataFrame:
    """What to take for which need: one row a need, with the columns "need" and "candidate"; arguments as in `select`.

    tokens: a budget of output tokens an answer. Needs that no model of the front meets are left out.
    """
    inside = excess(front, limits or {}) == 0
    rows, scaled = front[inside], scale(front[list(objectives)].to_numpy(dtype=np.float64))[inside]
    if rows.empty:
        return pd.DataFrame(columns=["need", "candidate"])
    accuracy = rows["accuracy"].to_numpy(dtype=np.float64)
    length = rows["tokens"].to_numpy(dtype=np.float64)
    best = accuracy.max()
    found = {"most accurate": int(np.lexsort((-length, accuracy))[-1])}
    close = np.flatnonzero(accuracy >= best - CLOSE)
    found[f"briefest within {CLOSE:.0%} of the best accuracy"] = int(close[length[close].argmin()])
    if tokens is not None and (length <= tokens).any():
        few = np.flatnonzero(length <= tokens)
        found[f"most accurate with at most {tokens:.4g} tokens"] = int(few[accuracy[few].argmax()])
    own = {"balanced": [1.0] * len(objectives), **(preferences or {})}
    found |= {
        choice.label if choice.label == "balanced" else f"your preference {choice.label}": choice.row
        for choice in _by_preference(scaled, own, nearest, "own")
    }
    found |= {f"best of {choice.label}": choice.row for choice in _by_benchmark(rows, scaled, benchmarks)}
    return pd.DataFrame(
        [(need, rows["candidate"].iloc[row]) for need, row in found.items()], columns=["need", "candidate"]
    )


def excess(table: pd.DataFrame, limits: Mapping[str, Mapping[str, float]]) -> NDArray[np.float64]:
    """How far each row is outside of limits such as {"tokens": {"max": 20}, "accuracy": {"min": 0.6}}: [rows].

    The sum of what is too much or too little, as shares of the limits; infinite where a value is missing. BadInput for
    a metric that the table lacks.
    """
    over = np.zeros(len(table))
    for metric, limit in limits.items():
        if metric not in table:
            nearest = get_close_matches(metric, map(str, table.columns), n=1, cutoff=0)
            raise BadInput(f"selection.limits: {metric!r} was not recorded; is it {nearest[0]!r}?")
        values = table[metric].to_numpy(dtype=np.float64)
        for bound, sign in [(limit.get("min"), -1), (limit.get("max"), 1)]:
            if bound is not None:
                beyond = np.maximum(sign * (values - bound), 0) / max(abs(bound), 1e-9)
                over += np.where(np.isnan(values), np.inf, beyond)
    return over


def nearest_to_limits(front: pd.DataFrame, limits: Mapping[str, Mapping[str, float]]) -> str:
    """What to say where no row is within the limits: which one is nearest, and what it has."""
    row = front.iloc[int(np.argmin(excess(front, limits)))]
    has = ", ".join(f"{metric} {row[metric]:.4g}" for metric in limits)
    return f"no candidate of the front is within the limits; the nearest is {row['candidate']} ({has}); relax them"


def das_dennis(m: int, divisions: int) -> NDArray[np.float64]:
    """All vectors of m multiples of 1/divisions with sum 1: [C(divisions + m - 1, m - 1) x m].

    I. Das, J. E. Dennis. Normal-Boundary Intersection. SIAM Journal on Optimization 8(3), 1998.
    """
    # Stars and bars: m - 1 bars among the places cut `divisions` stars into m runs.
    bars = np.array(list(combinations(range(divisions + m - 1), m - 1)), dtype=np.int64)
    return (np.diff(bars, axis=1, prepend=-1, append=divisions + m - 1) - 1) / divisions


def scale(Y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Objectives [n x m] of a front with its nadir at 0 and its ideal at 1; all 1 where all are equal."""
    nadir, ideal = Y.min(axis=0), Y.max(axis=0)
    width = ideal - nadir
    return np.where(width > 0, (Y - nadir) / np.where(width > 0, width, 1.0), 1.0)


def spread(scaled: NDArray[np.float64]) -> list[int]:
    """Order of the rows of [n x m]: the best mean first, then always the one farthest from those before."""
    order = [int(scaled.mean(axis=1).argmax())]
    while len(order) < len(scaled):
        distances = np.linalg.norm(scaled[:, None] - scaled[order][None], axis=2).min(axis=1)
        distances[order] = -1.0  # an equal point still to come is at 0
        order.append(int(distances.argmax()))
    return order


def _by_preference(
    scaled: NDArray[np.float64], preferences: Mapping[str, ArrayLike], nearest: int, kind: str
) -> list[Choice]:
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True).clip(min=1e-12)
    choices = []
    for label, weights in preferences.items():
        preference = np.asarray(weights, dtype=np.float64)
        # Rounded, so that equal cosines are ties, which the front's order breaks.
        cosine = ((scaled / lengths) @ (preference / np.linalg.norm(preference))).round(12)
        similar = np.argsort(-cosine, kind="stable")[:nearest]
        row = int(similar[scaled[similar].mean(axis=1).argmax()])
        choices.append(Choice(row, kind, label, float(cosine[row])))
    return choices


def _by_benchmark(
    front: pd.DataFrame, scaled: NDArray[np.float64], benchmarks: Sequence[str]
) -> list[Choice]:
    choices = []
    for benchmark in benchmarks:
        accuracy = front[f"{benchmark}.accuracy"].to_numpy(dtype=np.float64)
        row = np.lexsort((scaled.mean(axis=1), accuracy))[-1]  # of equals, the best mean objective
        choices.append(Choice(int(row), "best", benchmark, -1.0))
    return choices


def _merge(choices: Sequence[Choice]) -> dict[str, str]:
    """One line for a candidate, whatever chose it, named after the preference that it fits best."""
    # A name of the user's own stands for more than how well a preference fits.
    best = max(choices, key=lambda choice: (choice.kind == "own", choice.fit))
    phrases = {
        "own": "best mean objective of the candidates most similar to the preference",
        "preference": "best mean objective of the candidates most similar to preference",
        "best": "most accurate on",
    }
    fitting = [choice for choice in choices if choice.kind == "preference"]
    reasons = []
    for kind, phrase in phrases.items():
        labels = [choice.label for choice in choices if choice.kind == kind]
        reasons += [f"{phrase} {', '.join(labels)}"] if labels else []
    return {
        "name": best.label if best.kind == "own" else f"{best.kind}-{best.label}",
        "preference": max(fitting, key=lambda choice: choice.fit).label if fitting else "",
        "reason": "; ".join(reasons),
    }
