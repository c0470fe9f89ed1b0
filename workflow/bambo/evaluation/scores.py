"""From one row an answer to the scores of a benchmark."""

import statistics
from collections.abc import Sequence
from math import sqrt
from typing import Any

METRICS = {"accuracy": "correct", "tokens": "output_tokens"}


def benchmark_scores(rows: Sequence[dict]) -> dict[str, Any]:
    """Scores of one benchmark from its rows (question, correct, output_tokens, finish_reason), one an answer.

    Means and standard errors are over the per-question means; `*_repeat_variance` is the variance that a mean has
    when the same questions are answered again, sum_q s_q^2 / k / Q^2 over Q questions with k >= 2 answers of variance
    s_q^2. Null where one question or one repeat does not tell.
    """
    answers: dict[int, list[dict]] = {}
    for row in rows:
        answers.setdefault(row["question"], []).append(row)
    questions = list(answers.values())
    scores: dict[str, Any] = {}
    for metric, column in METRICS.items():
        values = [[float(answer[column]) for answer in each] for each in questions]
        means = [statistics.fmean(each) for each in values]
        scores[metric] = statistics.fmean(means)
        scores[f"{metric}_stderr"] = statistics.stdev(means) / sqrt(len(means)) if len(means) > 1 else None
        scores[f"{metric}_repeat_variance"] = (
            sum(statistics.variance(each) / len(each) for each in values) / len(values) ** 2
            if all(len(each) > 1 for each in values)
            else None
        )
    truncated = statistics.fmean(row["finish_reason"] == "length" for row in rows)
    return scores | {"truncated": truncated, "questions": len(questions), "repeats": len(questions[0])}
