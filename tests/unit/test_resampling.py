"""Objectives with the questions drawn anew, against closed forms and naive versions."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from bambo.evaluation.scores import benchmark_scores
from bambo.objectives import evaluate, normalisation
from bambo.resampling import Answered, Resampling, interval, probability_dominated
from fake_run import OBJECTIVES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

COUNTS = {"a": 300, "b": 80}
IDS = ("0" * 12, "1" * 12, "2" * 12, "3" * 12)  # thinking, instruct, two merges


def answers(seed: int, right: float, tokens: float, repeats: int = 1) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [
        {
            "benchmark": benchmark,
            "question": question,
            "repeat": repeat,
            "correct": float(generator.random() < right),
            "output_tokens": int(generator.poisson(tokens)),
            "prompt_tokens": 5,
            "seconds": 1.0,
            "finish_reason": "eos",
        }
        for benchmark, count in COUNTS.items()
        for question in range(count)
        for repeat in range(repeats)
    ]


def answered(id: str, rows: list[dict[str, Any]]) -> Answered:
    parts = {name: benchmark_scores([row for row in rows if row["benchmark"] == name]) for name in COUNTS}
    scores = {
        "id": id,
        "status": "ok",
        "device": "cpu",
        "benchmarks": parts,
        "throughput": 100.0,
        "energy": None,
    }
    return Answered(scores, pd.DataFrame(rows))


@pytest.fixture(scope="module")
def models() -> dict[str, Answered]:
    made = zip(IDS, (0.9, 0.2, 0.6, 0.5), (40, 5, 15, 20), strict=True)
    return {id: answered(id, answers(seed, *own)) for seed, (id, *own) in enumerate(made)}


def scale(models: dict[str, Answered], objectives: dict[str, Any] = OBJECTIVES) -> dict[str, Any]:
    ends = {"thinking": models[IDS[0]].scores, "instruct": models[IDS[1]].scores}
    return normalisation(objectives, ends)


def test_has_the_errors_of_the_delta_method(models: dict[str, Answered]) -> None:
    ids = list(IDS[2:])
    Y = Resampling(models, draws=4000).objectives(ids, scale(models))
    expected = evaluate([models[id].scores for id in ids], scale(models))
    assert Y.mean(axis=0) == pytest.approx(expected.Y, abs=0.01)
    # The delta method takes models as independent, which these are; their questions have nothing in common.
    assert Y.std(axis=0) == pytest.approx(expected.stderr, rel=0.15)


def test_end_points_are_0_and_1_on_every_draw(models: dict[str, Answered]) -> None:
    Y = Resampling(models, draws=50).objectives(IDS[:2], scale(models))
    assert Y[:, 0] == pytest.approx(np.tile([1.0, 0.0], (50, 1)))
    assert Y[:, 1] == pytest.approx(np.tile([0.0, 1.0], (50, 1)))


def test_equal_seeds_draw_equal_questions(models: dict[str, Answered]) -> None:
    """So that answers to the same questions are compared question by question: here both gave the same ones."""
    again = {
        id[::-1] + "f": answered(id[::-1] + "f", own.samples.to_dict("records")) for id, own in models.items()
    }
    one, other = Resampling(models, 100, seed=3), Resampling(again, 100, seed=3)
    assert (one.raw(IDS[2], "accuracy") == other.raw(f"{IDS[2][::-1]}f", "accuracy")).all()
    assert (one.raw(IDS[2], "accuracy") != Resampling(models, 100, seed=4).raw(IDS[2], "accuracy")).any()


def test_answers_to_a_question_stay_together() -> None:
    """Resampling answers, not questions, would make the error of k equal repeats too small by sqrt(k)."""
    once = answers(0, 0.5, 10)
    thrice = [{**row, "repeat": repeat} for row in once for repeat in range(3)]
    one, three = (Resampling({IDS[0]: answered(IDS[0], rows)}, 500) for rows in (once, thrice))
    assert three.raw(IDS[0], "accuracy") == pytest.approx(one.raw(IDS[0], "accuracy"))


def test_what_is_no_mean_over_answers_has_its_standard_error(models: dict[str, Answered]) -> None:
    sampling = Resampling(models, 4000)
    draws = sampling.raw(IDS[2], "tokens_per_correct")
    parts = models[IDS[2]].scores["benchmarks"].values()
    assert draws.mean() == pytest.approx(np.mean([part["tokens_per_correct"] for part in parts]), rel=0.01)
    error = np.hypot(*(part["tokens_per_correct_stderr"] for part in parts)) / 2
    assert draws.std() == pytest.approx(error, rel=0.1)


def test_interval_is_the_middle_of_the_draws() -> None:
    low, high = interval(np.arange(1001.0))
    assert (low, high) == (25, 975)


@given(arrays(float, (4, 5, 2), elements=st.integers(0, 3).map(float)))
def test_probability_of_being_dominated_is_that_of_counting(Y: np.ndarray) -> None:
    expected = [
        np.mean([any((o >= y[i]).all() and (o > y[i]).any() for o in y) for y in Y])
        for i in range(Y.shape[1])
    ]
    assert probability_dominated(Y) == pytest.approx(expected)
