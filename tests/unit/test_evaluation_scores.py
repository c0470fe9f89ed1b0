import numpy as np
import pytest
from bambo.evaluation.flops import Architecture
from bambo.evaluation.scores import benchmark_scores, generation_scores, harness_scores
from hypothesis import given
from hypothesis import strategies as st


def _rows(values: list[list[tuple[float, int]]]) -> list[dict]:
    """values: per question and repeat (correct, tokens)."""
    return [
        {
            "question": question,
            "correct": correct,
            "output_tokens": tokens,
            "prompt_tokens": 5 + question,
            "seconds": tokens / 8,
            "finish_reason": "eos",
        }
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


def test_every_metric_of_an_answer_has_its_unit() -> None:
    rows = _rows([[(1.0, 10)], [(0.0, 20)], [(1.0, 30)], [(1.0, 40)]])
    scores = benchmark_scores(rows, Architecture(layers=100, head=10, width=0, windows=()))
    assert scores["latency"] == pytest.approx(25 / 8)
    assert scores["latency_stderr"] == pytest.approx(scores["tokens_stderr"] / 8)
    assert scores["prompt_tokens"] == 6.5
    # 2 x 100 for each token but the last one, 2 x 10 for each output token
    assert scores["flops"] == pytest.approx(200 * (6.5 + 25 - 1) + 20 * 25)
    assert scores["prompt_tokens_covariance"] == pytest.approx(
        np.cov([5, 6, 7, 8], [10, 20, 30, 40])[0, 1] / 4
    )
    assert benchmark_scores(rows)["flops"] is None
    assert benchmark_scores(rows)["flops_stderr"] is None


ANSWERS = st.tuples(st.sampled_from([0.0, 1.0]), st.integers(1, 99))


@given(st.lists(st.lists(ANSWERS, min_size=3, max_size=3), min_size=2, max_size=8))
def test_tokens_per_correct_is_all_tokens_over_all_right_answers(
    values: list[list[tuple[float, int]]],
) -> None:
    scores = benchmark_scores(_rows(values))
    table = np.array(values)
    right, tokens = table[..., 0], table[..., 1]
    if right.sum() == 0:  # as if one were right
        assert scores["tokens_per_correct"] == pytest.approx(tokens.sum())
        assert scores["tokens_per_correct_stderr"] == pytest.approx(tokens.sum())
        assert scores["tokens_per_correct_repeat_variance"] is None
        return
    ratio = tokens.sum() / right.sum()
    assert scores["tokens_per_correct"] == pytest.approx(ratio)
    (tt, ta), (_, aa) = np.cov(tokens.mean(1), right.mean(1)) / len(table)
    variance = (tt - 2 * ratio * ta + ratio**2 * aa) / right.mean() ** 2
    assert scores["tokens_per_correct_stderr"] ** 2 == pytest.approx(variance, abs=1e-6)


def test_errors_of_tokens_per_correct_are_what_it_varies_by() -> None:
    rng = np.random.default_rng(0)

    def draw() -> dict:
        right = rng.uniform(size=200) < 0.6
        tokens = rng.gamma(4, np.where(right, 20, 40))  # wrong answers are longer
        return benchmark_scores(_rows([[(float(r), float(t))] for r, t in zip(right, tokens, strict=True)]))

    scores = [draw() for _ in range(400)]
    values = [each["tokens_per_correct"] for each in scores]
    assert np.mean([each["tokens_per_correct_stderr"] for each in scores]) == pytest.approx(
        np.std(values), rel=0.1
    )


def test_repeat_variance_of_tokens_per_correct_is_what_it_varies_by() -> None:
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.3, 0.9, size=60)

    def draw() -> dict:
        right = rng.uniform(size=(60, 3)) < shares[:, None]
        tokens = rng.gamma(4, np.where(right, 20, 40))
        return benchmark_scores(
            _rows([list(zip(r.astype(float), t, strict=True)) for r, t in zip(right, tokens, strict=True)])
        )

    scores = [draw() for _ in range(400)]
    values = [each["tokens_per_correct"] for each in scores]
    assert np.mean([each["tokens_per_correct_repeat_variance"] for each in scores]) == pytest.approx(
        np.var(values), rel=0.15
    )


def test_columns_of_the_harness_are_metrics() -> None:
    rows = _rows([[(1.0, 1), (0.0, 1)], [(0.0, 1), (0.0, 1)]])
    for row, value in zip(rows, [1.0, 0.0, 0.5, None], strict=True):
        row |= {"exact_match,strict-match": value, "bleu,none": None}
    scores = benchmark_scores(rows)
    assert scores["exact_match,strict-match"] == 0.5
    assert scores["exact_match,strict-match_stderr"] == 0.0
    assert scores["exact_match,strict-match_repeat_variance"] is None
    assert "bleu,none" not in scores


def test_metrics_of_a_corpus_are_the_harness_s_own() -> None:
    results = [
        {"alias": "wmt", "sample_len": 9, "bleu,none": bleu, "bleu_stderr,none": error, "other,none": "?"}
        for bleu, error in [(30.0, 2.0), (34.0, 3.0)]
    ]
    results = [each | {"ter,none": 1.0, "ter_stderr,none": "N/A", "boxed_match,boxed": 1} for each in results]
    assert harness_scores(results, "boxed_match,boxed") == {
        "bleu,none": 32.0,
        "bleu,none_stderr": 2.5,
        "bleu,none_repeat_variance": 8.0 / 2,
        "ter,none": 1.0,
        "ter,none_stderr": None,
        "ter,none_repeat_variance": 0.0,
    }
    assert harness_scores(results[:1], "")["bleu,none_repeat_variance"] is None


def test_generation_as_a_whole() -> None:
    cost = {"tokens": 600, "seconds": 3.0, "joules": 90.0, "unmetered": 0}
    assert generation_scores(cost, 30) == {"throughput": 200.0, "energy": 3.0}
    # a part of the answers was made without a meter, or all
    assert generation_scores({**cost, "unmetered": 1}, 30)["energy"] is None
    assert generation_scores({**cost, "joules": 0, "unmetered": 2}, 30)["energy"] is None
    assert generation_scores({**cost, "seconds": 0.0}, 30)["throughput"] is None
