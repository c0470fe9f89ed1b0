import numpy as np
import pytest
from bambo.evaluation.scores import benchmark_scores
from hypothesis import given
from hypothesis import strategies as st


def _rows(values: list[list[tuple[float, int]]]) -> list[dict]:
    """values: per question and repeat (correct, tokens)."""
    return [
        {"question": question, "correct": correct, "output_tokens": tokens, "finish_reason": "eos"}
        for question, repeats in enumerate(values)
        for correct, tokens in repeats
    ]


def test_one_answer_a_question() -> None:
    scores = benchmark_scores(_rows([[(1.0, 10)], [(0.0, 20)], [(1.0, 30)], [(1.0, 40)]]))
    assert scores["accuracy"] == 0.75
    assert scores["accuracy_stderr"] == pytest.approx(0.5 / 2)
    assert scores["tokens"] == 25
    assert scores["tokens_stderr"] == pytest.approx(np.std([10, 20, 30, 40], ddof=1) / 2)
    assert scores["accuracy_repeat_variance"] is None
    assert scores["tokens_repeat_variance"] is None
    assert (scores["questions"], scores["repeats"], scores["truncated"]) == (4, 1, 0)


@given(
    st.integers(2, 5).flatmap(
        lambda k: st.lists(
            st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(1, 99)), min_size=k, max_size=k),
            min_size=2,
            max_size=8,
        )
    )
)
def test_repeats_are_averaged_within_questions(values: list[list[tuple[float, int]]]) -> None:
    scores = benchmark_scores(_rows(values))
    for column, metric in enumerate(["accuracy", "tokens"]):
        table = np.array(values)[:, :, column]  # questions x repeats
        questions, repeats = table.shape
        assert scores[metric] == pytest.approx(table.mean())
        assert scores[f"{metric}_stderr"] == pytest.approx(table.mean(1).std(ddof=1) / questions**0.5)
        variance = (table.var(1, ddof=1) / repeats).sum() / questions**2
        assert scores[f"{metric}_repeat_variance"] == pytest.approx(variance)


def test_repeat_variance_is_what_the_mean_varies_by() -> None:
    rng = np.random.default_rng(0)
    shares = rng.uniform(size=20)
    draws = rng.uniform(size=(2000, 20, 4)) < shares[:, None]
    scores = [
        benchmark_scores(_rows([[(float(c), 1) for c in question] for question in draw]))
        for draw in draws[:200]
    ]
    assert np.mean([score["accuracy_repeat_variance"] for score in scores]) == pytest.approx(
        draws.mean((1, 2)).var(), rel=0.1
    )


def test_truncated_share_counts_answers() -> None:
    rows = _rows([[(1.0, 1), (1.0, 1)], [(0.0, 9), (0.0, 9)]])
    rows[3]["finish_reason"] = "length"
    assert benchmark_scores(rows)["truncated"] == 0.25


def test_one_question_has_no_standard_error() -> None:
    scores = benchmark_scores(_rows([[(1.0, 3)]]))
    assert scores["accuracy_stderr"] is None
    assert scores["tokens_stderr"] is None
