"""From one row an answer to the scores of a benchmark, and what a candidate's generation cost.

What the metrics mean, their units and formulas: docs/metrics.md; their directions: `objectives.METRICS`.
"""

import statistics
from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any

from .flops import Architecture

# Metrics that are means over answers, by what they read of a row. Prompt tokens are what `cost` is reckoned with.
COLUMNS = {
    "accuracy": "correct",
    "tokens": "output_tokens",
    "prompt_tokens": "prompt_tokens",
    "latency": "seconds",
}

Answers = list[list[float]]  # of one metric: per question, per answer


def benchmark_scores(rows: Sequence[dict], architecture: Architecture | None = None) -> dict[str, Any]:
    """Scores of one benchmark from its rows, one an answer, with the columns of samples.parquet.

    Of every metric `<m>` the mean, `<m>_stderr` (over questions) and `<m>_repeat_variance`; `flops` is null without an
    architecture. Columns named `<metric>,<filter>`, which hold what the harness scored, are metrics of that name.
    Means and standard errors are over the per-question means; `*_repeat_variance` is the variance that a mean has
    when the same questions are answered again, sum_q s_q^2 / k / Q^2 over Q questions with k >= 2 answers of variance
    s_q^2. Null where one question or one repeat does not tell.
    """
    places: dict[int, list[int]] = {}  # of a question's answers in `rows`
    for place, row in enumerate(rows):
        places.setdefault(row["question"], []).append(place)

    def by_question(values: Sequence[float | None]) -> Answers:
        found = [[values[place] for place in each] for each in places.values()]
        return [kept for each in found if (kept := [float(value) for value in each if value is not None])]

    metrics = {metric: by_question([row[column] for row in rows]) for metric, column in COLUMNS.items()}
    if architecture is not None:
        metrics["flops"] = by_question(
            [architecture.flops(row["prompt_tokens"], row["output_tokens"]) for row in rows]
        )
    for column in (column for column in rows[0] if "," in column):
        # What is no number, for a question, says nothing on it.
        own = by_question([row[column] if _is_number(row[column]) else None for row in rows])
        metrics |= {column: own} if own else {}
    scores: dict[str, Any] = _named("flops", None, None, None)
    for metric, values in metrics.items():
        scores |= _named(metric, *_mean(values))
    scores |= _named("tokens_per_correct", *_tokens_per_correct(metrics["tokens"], metrics["accuracy"]))
    scores["prompt_tokens_covariance"] = _covariance(metrics["prompt_tokens"], metrics["tokens"])
    truncated = statistics.fmean(row["finish_reason"] == "length" for row in rows)
    repeats = len(next(iter(places.values())))
    return scores | {"truncated": truncated, "questions": len(places), "repeats": repeats}


def harness_scores(results: Sequence[Mapping[str, Any]], omit: str) -> dict[str, Any]:
    """The harness's own scores of one benchmark from its results, one dict a repeat, `<metric>,<filter>` -> value.

    omit: the one that is ours.

    The mean over the repeats, the mean of the harness's standard errors, which are over questions, and the variance of
    the mean over the repeats; for metrics of a whole corpus (BLEU), which are no mean over questions.
    """
    scores: dict[str, Any] = {}
    for key, first in results[0].items():
        metric, _, reading = key.partition(",")
        # A standard error is called "<metric>_stderr,<filter>", or "N/A" where there is none.
        if key == omit or not _is_number(first) or f"{metric}_stderr,{reading}" not in results[0]:
            continue
        values = [float(each[key]) for each in results]
        errors = [each[f"{metric}_stderr,{reading}"] for each in results]
        error = statistics.fmean(errors) if all(map(_is_number, errors)) else None
        spread = statistics.variance(values) / len(values) if len(values) > 1 else None
        scores |= _named(key, statistics.fmean(values), error, spread)
    return scores


def generation_scores(cost: Mapping[str, float], answers: int) -> dict[str, float | None]:
    """Metrics of a candidate's generation as a whole, from what `lm.cost` added up; null where they are not known.

    throughput: output tokens a second; energy: joules an answer, null where a part was spent without a meter.
    """
    metered = cost["joules"] and not cost["unmetered"]
    return {
        "throughput": cost["tokens"] / cost["seconds"] if cost["seconds"] else None,
        "energy": cost["joules"] / answers if metered else None,
    }


def shown(part: Mapping[str, Any], metric: str, form: str) -> str:
    """A benchmark's metric with its standard error, both in the format `form`."""
    error = part[f"{metric}_stderr"]
    return f"{part[metric]:{form}}" + (f" ± {error:{form}}" if error is not None else "")


def _named(
    metric: str, mean: float | None, stderr: float | None, repeat_variance: float | None
) -> dict[str, float | None]:
    return {metric: mean, f"{metric}_stderr": stderr, f"{metric}_repeat_variance": repeat_variance}


def _mean(values: Answers) -> tuple[float, float | None, float | None]:
    """Mean, standard error, repeat variance."""
    means = [statistics.fmean(each) for each in values]
    error = statistics.stdev(means) / sqrt(len(means)) if len(means) > 1 else None
    return statistics.fmean(means), error, _over_repeats(values)


def _tokens_per_correct(tokens: Answers, correct: Answers) -> tuple[float, float | None, float | None]:
    """R = T / A of the means T and A, with errors by the delta method.

    var R = (var T - 2 R cov(T, A) + R^2 var A) / A^2, over questions or within them. Where no answer is right, R is
    infinite: in its place stands what it would be had one been right, a lower bound of which the error is its size.
    """
    means = [(statistics.fmean(t), statistics.fmean(a)) for t, a in zip(tokens, correct, strict=True)]
    total, right = (statistics.fmean(column) for column in zip(*means, strict=True))
    if right == 0:
        bound = total * sum(map(len, correct))
        return bound, bound, None
    ratio = total / right
    # The residuals t - R a have mean 0, and the variance in brackets.
    residuals = [
        [t - ratio * a for t, a in zip(*each, strict=True)] for each in zip(tokens, correct, strict=True)
    ]
    _, error, variance = _mean(residuals)
    return (
        ratio,
        None if error is None else error / right,
        None if variance is None else variance / right**2,
    )


def _covariance(x: Answers, y: Answers) -> float | None:
    """Covariance of two means, over questions."""
    if len(x) < 2:
        return None
    means = [[statistics.fmean(each) for each in values] for values in (x, y)]
    return statistics.covariance(*means) / len(x)


def _over_repeats(values: Answers) -> float | None:
    if any(len(each) < 2 for each in values):
        return None
    return sum(statistics.variance(each) / len(each) for each in values) / len(values) ** 2


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)
