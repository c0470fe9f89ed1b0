"""Normalised objectives (Eq. 2) from raw scores: the base scores 0, the expert 1, and more is better.

f_k = mean over the benchmarks b of (s_b - base_b) / (expert_b - base_b). The paper writes a sum; with the
mean an expert scores 1 whatever the number of benchmarks, and it is what the paper's own tables show.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from math import hypot, nan, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import BadInput


class Metric(NamedTuple):
    """What BAMBO knows of a metric; all else on it is in docs/metrics.md."""

    direction: int  # 1 where more is better, -1 where less is
    unit: str  # as on the axis of a figure
    of: str = "benchmark"  # what has a value of it: each benchmark, or the candidate as a whole
    on_device: bool = False  # its value is that of one device, engine and batch
    unknown: str = "it was not recorded"  # why a candidate has none


# The raw metrics, known nowhere else. Dividing by (expert - base) turns fewer tokens into more efficiency.
METRICS = {
    "accuracy": Metric(1, "share of questions"),
    "tokens": Metric(-1, "output tokens an answer"),
    "tokens_per_correct": Metric(-1, "output tokens a right answer"),
    "flops": Metric(-1, "FLOPs an answer", unknown="config.json or the weights' headers do not tell"),
    "latency": Metric(-1, "s an answer", on_device=True),
    "cost": Metric(-1, "money an answer", on_device=True),
    "throughput": Metric(1, "tokens a second", "candidate", True, "nothing was generated"),
    "energy": Metric(-1, "J an answer", "candidate", True, "its device has no energy meter (NVML on a GPU)"),
    "peak_memory_gb": Metric(-1, "GB", "candidate", True),
}
WHOLE = ""  # stands for a benchmark where a metric is the candidate's
SIGNIFICANT = 2.0  # standard errors from which a gap between expert and base is believed
# Share of the binomial variance taken for the noise of a repeat where none was measured. A repeat asks the
# same questions, so most of the binomial variance (which questions were drawn) would not change.
NOISE_SHARE = 0.25
# Standard deviation of what is measured once, as a share of its value, from one evaluation to the next.
MEASURED_NOISE = 0.02


class Value(NamedTuple):
    """A raw metric of a candidate, None where it is not known; its errors as in scores.json."""

    value: float | None
    stderr: float | None = None
    repeat_variance: float | None = None


class Evaluation(NamedTuple):
    """Objectives of n candidates: values, standard errors, variances from repeat to repeat, each [n x m]."""

    Y: NDArray[np.float64]
    stderr: NDArray[np.float64]
    repeat_variance: NDArray[np.float64]


def normalisation(
    objectives: Mapping[str, Mapping[str, Any]],
    end_points: Mapping[str, Mapping[str, Any]],
    prices: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What Eq. 2 needs of the end points: expert, base and gap for every objective and benchmark; JSON-able.

    objectives: name -> {metric, direction (None: the metric's own, max for the harness's), expert, base, benchmarks
    (None: all)}; end_points: source -> its scores.json; prices: as in `cost`.
    Gaps are positive where the expert is better; "warnings" names those under 2 standard errors, which take
    expert and base as independent: wide, since both answered the same questions.
    BadInput: failed end point; unknown metric, source or benchmark; a value that is not known; end points of two
    devices where the metric depends on it; no gap; expert worse by 2 standard errors.
    """
    for source, scores in end_points.items():
        if scores["status"] != "ok":
            raise BadInput(
                f"evaluation of source {source!r}: failed ({scores['reason']}), but it sets the scale of the "
                "objectives; mend the cause and run again"
            )
    prices = dict(prices or {})
    table = {name: _normalise(name, spec, end_points, prices) for name, spec in objectives.items()}
    warnings = [text for row in table.values() for text in row.pop("warnings")]
    return {"objectives": table, "prices": prices, "warnings": warnings}


def evaluate(
    scores: Iterable[Mapping[str, Any]], normalisation: Mapping[str, Any], noise_share: float = NOISE_SHARE
) -> Evaluation:
    """Objectives (Eq. 2) of candidates from their scores.json; columns in the order of the normalisation.

    Standard errors are for reports: by the delta method, with the end points' own error; NaN where the candidate's is
    not known. The repeat variance is for surrogates: the within-question variance where repeats were recorded, else
    `noise_share` of the binomial variance (accuracy) or of the squared standard error; of what is measured once for a
    candidate, 2 % of its value, squared.
    ValueError for a failed evaluation; BadInput where a value is not known, or was measured on another device than the
    end points'.
    """
    cells = [
        [
            _objective(row, name, spec, normalisation["prices"], noise_share)
            for name, spec in normalisation["objectives"].items()
        ]
        for row in scores
    ]
    stacked = np.array(cells, dtype=np.float64).reshape(-1, len(normalisation["objectives"]), 3)
    return Evaluation(stacked[..., 0], stacked[..., 1], stacked[..., 2])


def describe(normalisation: Mapping[str, Any]) -> str:
    """The gaps between expert and base, one line for each objective and benchmark, then the warnings."""
    lines = []
    for name, spec in normalisation["objectives"].items():
        for benchmark, gap in spec["benchmarks"].items():
            error = "" if gap["gap_stderr"] is None else f" ± {gap['gap_stderr']:.2g}"
            lines.append(
                f"{name}{benchmark and ', '}{benchmark}: {spec['metric']} of expert {spec['expert']} "
                f"{gap['expert']:.4g}, of base {spec['base']} {gap['base']:.4g}; gap {gap['gap']:.4g}{error}"
            )
    return "\n".join(lines + [f"warning: {text}" for text in normalisation["warnings"]])


def measured(
    scores: Mapping[str, Any], metric: str, benchmark: str, prices: Mapping[str, float], place: str = ""
) -> Value:
    """A raw metric of a scored candidate on one of its benchmarks, or as a whole (WHOLE).

    `metric`: one of METRICS, or one of the harness, `<metric>,<filter>`, or `<metric>` where it has one filter.
    BadInput, beginning with `place`, where the benchmark has none of this name, or several.
    """
    if benchmark == WHOLE:
        return Value(scores.get(metric))
    row = scores["benchmarks"][benchmark]
    if metric == "cost":
        return cost(scores, benchmark, prices)
    key = metric if metric in METRICS else _harness_key(metric, row, benchmark, place)
    return Value(*(row.get(f"{key}{part}") for part in ("", "_stderr", "_repeat_variance")))


def benchmarks_of(scores: Mapping[str, Any], metric: str) -> list[str]:
    """The benchmarks that have a metric, [WHOLE] for one of the candidate."""
    if metric in METRICS:
        return list(scores["benchmarks"]) if METRICS[metric].of == "benchmark" else [WHOLE]
    return [name for name, row in scores["benchmarks"].items() if metric in choices(row)]


def choices(row: Mapping[str, Any] | Iterable[str]) -> list[str]:
    """Names by which the harness's metrics can be asked for, from the names of those that there are."""
    full = [key for key in row if "," in key and not key.endswith(("_stderr", "_repeat_variance"))]
    short = [key.partition(",")[0] for key in full]
    return [*full, *(name for name in dict.fromkeys(short) if short.count(name) == 1)]


def cost(scores: Mapping[str, Any], benchmark: str, prices: Mapping[str, float]) -> Value:
    """Money an answer: c T + i P for T output and P prompt tokens in the mean.

    c: the price of an output token, and the GPUs' time of the whole candidate shared over its output tokens; i: the
    price of a prompt token. prices: {gpu_hour, input_tokens, output_tokens (of a million)}, 0 where missing. Errors
    take c as certain: var = c^2 var T + i^2 var P + 2 c i cov(T, P). A repeat has the same prompts.
    """
    row = scores["benchmarks"][benchmark]
    answers = {name: each["questions"] * each["repeats"] for name, each in scores["benchmarks"].items()}
    tokens = sum(scores["benchmarks"][name]["tokens"] * count for name, count in answers.items())
    hours = scores["generation_seconds"] * scores["gpus"] / 3600
    output = prices.get("output_tokens", 0) / 1e6 + prices.get("gpu_hour", 0) * hours / tokens
    prompt = prices.get("input_tokens", 0) / 1e6
    error, repeat = None, row["tokens_repeat_variance"]
    if row["tokens_stderr"] is not None:
        variance = (output * row["tokens_stderr"]) ** 2 + (prompt * row["prompt_tokens_stderr"]) ** 2
        error = sqrt(max(variance + 2 * output * prompt * row["prompt_tokens_covariance"], 0.0))
    return Value(
        output * row["tokens"] + prompt * row["prompt_tokens"],
        error,
        None if repeat is None else output**2 * repeat,
    )


def depends_on_device(metric: str, prices: Mapping[str, float]) -> bool:
    """Whether values of a metric can only be compared on one device: of costs those with the GPUs' time."""
    if metric == "cost":
        return prices.get("gpu_hour", 0) > 0
    return metric in METRICS and METRICS[metric].on_device


def _normalise(
    name: str, spec: Mapping[str, Any], end_points: Mapping[str, Any], prices: Mapping[str, float]
) -> dict[str, Any]:
    place, metric = f"objectives.{name}", spec["metric"]
    expert = end_points[_known(f"{place}.expert", spec["expert"], end_points)]
    base = end_points[_known(f"{place}.base", spec["base"], end_points)]
    device = None
    if depends_on_device(metric, prices):
        device = expert["device"]
        if base["device"] != device:
            raise BadInput(
                f"{place}: {metric} depends on the device, but expert {spec['expert']} ({expert['id']}) was evaluated "
                f"on {device}, base {spec['base']} ({base['id']}) on {base['device']}; evaluate both on one"
            )
    whole = metric in METRICS and METRICS[metric].of == "candidate"
    asked = [WHOLE] if whole else list(spec.get("benchmarks") or expert["benchmarks"])
    direction = {"max": 1, "min": -1}.get(spec.get("direction") or "", default_direction(metric))
    benchmarks, warnings = {}, []
    for benchmark in asked:
        if not whole:
            _known(f"{place}.benchmarks", benchmark, expert["benchmarks"])
        of_expert, of_base = (
            _end_point(place, source, end_points[source], metric, benchmark, prices)
            for source in (spec["expert"], spec["base"])
        )
        gap = _gap(of_expert, of_base, direction, whole)
        warnings += _check_gap(place, spec, benchmark, gap)
        benchmarks[benchmark] = gap
    return {
        "metric": metric,
        "expert": spec["expert"],
        "expert_id": expert["id"],
        "base": spec["base"],
        "base_id": base["id"],
        "device": device,
        "benchmarks": benchmarks,
        "warnings": warnings,
    }


def default_direction(metric: str) -> int:
    """That of a metric where the config does not say: more of a metric of the harness is better."""
    return METRICS[metric].direction if metric in METRICS else 1


def _end_point(
    place: str,
    source: str,
    scores: Mapping[str, Any],
    metric: str,
    benchmark: str,
    prices: Mapping[str, float],
) -> Value:
    found = measured(scores, metric, benchmark, prices, f"{place}.metric")
    _check_known(place, scores, metric, found)
    if metric == "tokens_per_correct" and scores["benchmarks"][benchmark]["accuracy"] == 0:
        raise BadInput(
            f"{place}: no answer of source {source} to benchmark {benchmark} is right, so that it has no tokens a "
            "right answer, and sets no scale; drop the benchmark, or take another metric"
        )
    return found


def _check_known(place: str, scores: Mapping[str, Any], metric: str, found: Value) -> None:
    if found.value is None:
        reason = METRICS[metric].unknown if metric in METRICS else "it was not recorded"
        raise BadInput(
            f"{place}: {metric} of candidate {scores['id']}, on {scores.get('device')}, is not known: {reason}; take "
            "another metric"
        )


def _gap(expert: Value, base: Value, direction: int, whole: bool) -> dict[str, float | None]:
    assert expert.value is not None
    assert base.value is not None
    errors = [MEASURED_NOISE * abs(each.value or 0.0) if whole else each.stderr for each in (expert, base)]
    known = [error for error in errors if error is not None]
    return {
        "expert": expert.value,
        "expert_stderr": expert.stderr,
        "base": base.value,
        "base_stderr": base.stderr,
        "gap": direction * (expert.value - base.value),
        "gap_stderr": hypot(*known) if len(known) == 2 else None,
    }


def _check_gap(place: str, spec: Mapping[str, Any], benchmark: str, gap: Mapping[str, Any]) -> list[str]:
    """A warning for a gap that may be chance; BadInput where there is none, or it looks swapped."""
    on = f" on benchmark {benchmark}" if benchmark else ""
    found = (
        f"{place}: {spec['metric']} of expert {spec['expert']}{on} is {gap['expert']:.4g}, of base {spec['base']} "
        f"{gap['base']:.4g}"
    )
    error = gap["gap_stderr"] or 0.0  # of one question there is none
    if gap["gap"] == 0:
        raise BadInput(f"{found}: no gap to normalise by; drop the benchmark or ask more questions")
    if gap["gap"] <= -SIGNIFICANT * error:
        raise BadInput(
            f"{found}, expected the expert to be better; expert and base look swapped, exchange them"
        )
    if gap["gap"] < SIGNIFICANT * error:
        return [
            f"{found}, a gap of {gap['gap'] / error:.1f} standard errors, expected at least "
            f"{SIGNIFICANT:g}; use more repeats or questions, or drop the benchmark"
        ]
    return []


def _objective(
    scores: Mapping[str, Any],
    name: str,
    spec: Mapping[str, Any],
    prices: Mapping[str, float],
    noise_share: float,
) -> tuple[float, float, float]:
    """One objective of one candidate: value, standard error, repeat variance."""
    if scores["status"] != "ok":
        raise ValueError(f"candidate {scores['id']} has no scores: {scores['reason']}")
    place = f"objectives.{name}"
    if spec["device"] is not None and scores["device"] != spec["device"]:
        raise BadInput(
            f"{place}: {spec['metric']} depends on the device, but candidate {scores['id']} was evaluated on "
            f"{scores['device']}, the end points {spec['expert_id']} and {spec['base_id']} on {spec['device']}; "
            "evaluate it again there, or take another metric"
        )
    terms = np.array(
        [
            _benchmark(place, scores, benchmark, gap, spec, prices, noise_share)
            for benchmark, gap in spec["benchmarks"].items()
        ]
    )
    value, variance, repeat = terms.sum(axis=0)
    return value / len(terms), sqrt(variance) / len(terms), repeat / len(terms) ** 2


def _benchmark(
    place: str,
    scores: Mapping[str, Any],
    benchmark: str,
    gap: Mapping[str, Any],
    spec: Mapping[str, Any],
    prices: Mapping[str, float],
    noise_share: float,
) -> tuple[float, float, float]:
    """f = (s - b) / (e - b) of one benchmark: value, variance by the delta method, repeat variance.

    With df/ds = 1/(e - b), df/db = (f - 1)/(e - b) and df/de = -f/(e - b), for independent errors:
    var f = (var s + (1 - f)^2 var b + f^2 var e) / (e - b)^2. Where the candidate's scores are the end
    point's own, f is 0 or 1 by definition, without error.
    """
    metric = spec["metric"]
    found = measured(scores, metric, benchmark, prices, f"{place}.metric")
    _check_known(place, scores, metric, found)
    assert found.value is not None
    difference = gap["expert"] - gap["base"]
    f = (found.value - gap["base"]) / difference
    repeat = _repeat_variance(found, scores, metric, benchmark, noise_share) / difference**2
    if scores["id"] in (spec["expert_id"], spec["base_id"]):
        return f, 0.0, repeat
    errors = found.stderr, gap["base_stderr"], gap["expert_stderr"]
    variances = [nan if error is None else error**2 for error in errors]
    return f, float(np.dot(variances, (1, (1 - f) ** 2, f**2))) / difference**2, repeat


def _repeat_variance(
    found: Value, scores: Mapping[str, Any], metric: str, benchmark: str, noise_share: float
) -> float:
    """Variance of a metric from one repeat to the next, in the metric's unit squared."""
    if found.repeat_variance is not None:
        return found.repeat_variance
    if metric == "accuracy":
        # One more right and one more wrong answer (Laplace): 0 % or 100 % correct is not free of noise.
        row = scores["benchmarks"][benchmark]
        p = (row["accuracy"] * row["questions"] + 1) / (row["questions"] + 2)
        return float(noise_share * p * (1 - p) / row["questions"])
    assert found.value is not None
    if found.stderr is None:
        return (MEASURED_NOISE * found.value) ** 2
    return float(noise_share * found.stderr**2)


def _harness_key(metric: str, row: Iterable[str], benchmark: str, place: str) -> str:
    """The name in full of a metric of the harness, out of the names of a benchmark's."""
    full = [key for key in row if metric in (key, key.partition(",")[0]) and key in choices(row)]
    if len(full) == 1:
        return full[0]
    if full:
        several = " or ".join(map(repr, full))
        raise BadInput(f"{place}: benchmark {benchmark} reads {metric!r} in several ways, expected {several}")
    names = [*METRICS, *choices(row)]
    nearest = get_close_matches(metric, names, n=1, cutoff=0)[0]
    raise BadInput(
        f"{place}: {metric!r} is no metric of benchmark {benchmark}, expected one of {', '.join(names)}; is it "
        f"{nearest!r}? Benchmarks that lack it are left out by naming the others in `benchmarks`"
    )


def check_metric(metric: str, names: Iterable[str], benchmark: str, place: str) -> None:
    """BadInput where a benchmark whose task has metrics of these names (`<metric>,<filter>`) has no such metric."""
    if metric not in METRICS:
        _harness_key(metric, list(names), benchmark, place)


def _known(place: str, name: str, known: Iterable[str]) -> str:
    names: Sequence[str] = list(known)
    if name not in names:
        nearest = get_close_matches(name, names, n=1, cutoff=0)
        raise BadInput(
            f"{place}: {name!r} is unknown, expected one of {', '.join(names)}; is it {nearest[0]!r}?"
        )
    return name
