"""Normalised objectives (Eq. 2) from raw scores: the base scores 0, the expert 1, and more is better.

f_k = mean over the benchmarks b of (s_b - base_b) / (expert_b - base_b). The paper writes a sum; with the
mean an expert scores 1 whatever the number of benchmarks, and it is what the paper's own tables show.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from math import hypot, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import BadInput

# The raw metrics and their better direction, known nowhere else: dividing by (expert - base) turns fewer
# tokens into more efficiency.
DIRECTIONS = {"accuracy": 1, "tokens": -1}
SIGNIFICANT = 2.0  # standard errors from which a gap between expert and base is believed
# Share of the binomial variance taken for the noise of a repeat where none was measured. A repeat asks the
# same questions, so most of the binomial variance (which questions were drawn) would not change.
NOISE_SHARE = 0.25


class Evaluation(NamedTuple):
    """Objectives of n candidates: values, standard errors, variances from repeat to repeat, each [n x m]."""

    Y: NDArray[np.float64]
    stderr: NDArray[np.float64]
    repeat_variance: NDArray[np.float64]


def normalisation(
    objectives: Mapping[str, Mapping[str, Any]], end_points: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What Eq. 2 needs of the end points: expert, base and gap for every objective and benchmark; JSON-able.

    objectives: name -> {metric, expert, base, benchmarks (None: all)}; end_points: source -> its scores.json.
    Gaps are positive where the expert is better; "warnings" names those under 2 standard errors, which take
    expert and base as independent: wide, since both answered the same questions.
    BadInput: failed end point; unknown metric, source or benchmark; no gap; expert worse by 2 standard
    errors.
    """
    for source, scores in end_points.items():
        if scores["status"] != "ok":
            raise BadInput(
                f"evaluation of source {source!r}: failed ({scores['reason']}), but it sets the scale of the "
                "objectives; mend the cause and run again"
            )
    table = {name: _normalise(name, spec, end_points) for name, spec in objectives.items()}
    return {"objectives": table, "warnings": [text for row in table.values() for text in row.pop("warnings")]}


def evaluate(
    scores: Iterable[Mapping[str, Any]], normalisation: Mapping[str, Any], noise_share: float = NOISE_SHARE
) -> Evaluation:
    """Objectives (Eq. 2) of candidates from their scores.json; columns in the order of the normalisation.

    Standard errors are for reports: by the delta method, with the end points' own error. The repeat variance
    is for surrogates: the within-question variance where repeats were recorded, else `noise_share` of the
    binomial variance (accuracy) or of the squared standard error (tokens).
    ValueError for a failed evaluation.
    """
    cells = [
        [_objective(row, spec, noise_share) for spec in normalisation["objectives"].values()]
        for row in scores
    ]
    stacked = np.array(cells, dtype=np.float64).reshape(-1, len(normalisation["objectives"]), 3)
    return Evaluation(stacked[..., 0], stacked[..., 1], stacked[..., 2])


def describe(normalisation: Mapping[str, Any]) -> str:
    """The gaps between expert and base, one line for each objective and benchmark, then the warnings."""
    lines = []
    for name, spec in normalisation["objectives"].items():
        for benchmark, gap in spec["benchmarks"].items():
            lines.append(
                f"{name}, {benchmark}: {spec['metric']} of expert {spec['expert']} {gap['expert']:.4g}, "
                f"of base {spec['base']} {gap['base']:.4g}; gap {gap['gap']:.4g} ± {gap['gap_stderr']:.2g}"
            )
    return "\n".join(lines + [f"warning: {text}" for text in normalisation["warnings"]])


def _normalise(name: str, spec: Mapping[str, Any], end_points: Mapping[str, Any]) -> dict[str, Any]:
    metric = _known(f"objectives.{name}.metric", spec["metric"], DIRECTIONS)
    expert = end_points[_known(f"objectives.{name}.expert", spec["expert"], end_points)]
    base = end_points[_known(f"objectives.{name}.base", spec["base"], end_points)]
    benchmarks, warnings = {}, []
    for benchmark in spec.get("benchmarks") or list(expert["benchmarks"]):
        _known(f"objectives.{name}.benchmarks", benchmark, expert["benchmarks"])
        gap = _gap(expert["benchmarks"][benchmark], base["benchmarks"][benchmark], metric)
        warnings += _check_gap(f"objectives.{name}", spec, benchmark, gap)
        benchmarks[benchmark] = gap
    return {
        "metric": metric,
        "expert": spec["expert"],
        "expert_id": expert["id"],
        "base": spec["base"],
        "base_id": base["id"],
        "benchmarks": benchmarks,
        "warnings": warnings,
    }


def _gap(expert: Mapping[str, float], base: Mapping[str, float], metric: str) -> dict[str, float]:
    error = f"{metric}_stderr"
    return {
        "expert": expert[metric],
        "expert_stderr": expert[error],
        "base": base[metric],
        "base_stderr": base[error],
        "gap": DIRECTIONS[metric] * (expert[metric] - base[metric]),
        "gap_stderr": hypot(expert[error], base[error]),
    }


def _check_gap(place: str, spec: Mapping[str, Any], benchmark: str, gap: Mapping[str, float]) -> list[str]:
    """A warning for a gap that may be chance; BadInput where there is none, or it looks swapped."""
    found = (
        f"{place}: {spec['metric']} of expert {spec['expert']} on benchmark {benchmark} is "
        f"{gap['expert']:.4g}, of base {spec['base']} {gap['base']:.4g}"
    )
    if gap["gap"] == 0:
        raise BadInput(f"{found}: no gap to normalise by; drop the benchmark or ask more questions")
    if gap["gap"] <= -SIGNIFICANT * gap["gap_stderr"]:
        raise BadInput(
            f"{found}, expected the expert to be better; expert and base look swapped, exchange them"
        )
    if gap["gap"] < SIGNIFICANT * gap["gap_stderr"]:
        return [
            f"{found}, a gap of {gap['gap'] / gap['gap_stderr']:.1f} standard errors, expected at least "
            f"{SIGNIFICANT:g}; use more repeats or questions, or drop the benchmark"
        ]
    return []


def _objective(
    scores: Mapping[str, Any], spec: Mapping[str, Any], noise_share: float
) -> tuple[float, float, float]:
    """One objective of one candidate: value, standard error, repeat variance."""
    if scores["status"] != "ok":
        raise ValueError(f"candidate {scores['id']} has no scores: {scores['reason']}")
    terms = np.array(
        [
            _benchmark(scores["id"], scores["benchmarks"][name], gap, spec, noise_share)
            for name, gap in spec["benchmarks"].items()
        ]
    )
    value, variance, repeat = terms.sum(axis=0)
    return value / len(terms), sqrt(variance) / len(terms), repeat / len(terms) ** 2


def _benchmark(
    candidate: str,
    row: Mapping[str, Any],
    gap: Mapping[str, float],
    spec: Mapping[str, Any],
    noise_share: float,
) -> tuple[float, float, float]:
    """f = (s - b) / (e - b) of one benchmark: value, variance by the delta method, repeat variance.

    With df/ds = 1/(e - b), df/db = (f - 1)/(e - b) and df/de = -f/(e - b), for independent errors:
    var f = (var s + (1 - f)^2 var b + f^2 var e) / (e - b)^2. Where the candidate's scores are the end
    point's own, f is 0 or 1 by definition, without error.
    """
    metric = spec["metric"]
    difference = gap["expert"] - gap["base"]
    f = (row[metric] - gap["base"]) / difference
    repeat = _repeat_variance(row, metric, noise_share) / difference**2
    if candidate in (spec["expert_id"], spec["base_id"]):
        return f, 0.0, repeat
    variances = row[f"{metric}_stderr"] ** 2, gap["base_stderr"] ** 2, gap["expert_stderr"] ** 2
    return f, float(np.dot(variances, (1, (1 - f) ** 2, f**2))) / difference**2, repeat


def _repeat_variance(row: Mapping[str, Any], metric: str, noise_share: float) -> float:
    """Variance of a benchmark's mean from one repeat to the next, in the metric's unit squared."""
    recorded = row[f"{metric}_repeat_variance"]
    if recorded is not None:
        return float(recorded)
    if metric == "accuracy":
        # One more right and one more wrong answer (Laplace): 0 % or 100 % correct is not free of noise.
        p = (row["accuracy"] * row["questions"] + 1) / (row["questions"] + 2)
        return float(noise_share * p * (1 - p) / row["questions"])
    return float(noise_share * row[f"{metric}_stderr"] ** 2)


def _known(place: str, name: str, known: Iterable[str]) -> str:
    names: Sequence[str] = list(known)
    if name not in names:
        nearest = get_close_matches(name, names, n=1, cutoff=0)
        raise BadInput(
            f"{place}: {name!r} is unknown, expected one of {', '.join(names)}; is it {nearest[0]!r}?"
        )
    return name
