"""Normalised objectives, their errors, and the checks of the end points."""

from typing import Any

import numpy as np
import pytest
from bambo.errors import BadInput
from bambo.objectives import describe, evaluate, normalisation
from hypothesis import given
from hypothesis import strategies as st

OBJECTIVES = {
    "reasoning": {"metric": "accuracy", "expert": "thinking", "base": "instruct", "benchmarks": None},
    "efficiency": {"metric": "tokens", "expert": "instruct", "base": "thinking"},
}


def benchmark(accuracy: float, tokens: float, **others: Any) -> dict[str, Any]:
    defaults = {
        "accuracy_stderr": 0.02,
        "tokens_stderr": 0.5,
        "accuracy_repeat_variance": None,
        "tokens_repeat_variance": None,
        "questions": 150,
    }
    return {"accuracy": accuracy, "tokens": tokens, **defaults, **others}


def scores(id: str, **benchmarks: dict[str, Any]) -> dict[str, Any]:
    return {"id": id, "status": "ok", "benchmarks": benchmarks}


THINKING = scores("t", gpqa=benchmark(0.8, 40), aime=benchmark(0.6, 100))
INSTRUCT = scores("i", gpqa=benchmark(0.4, 4), aime=benchmark(0.1, 20))
END_POINTS = {"thinking": THINKING, "instruct": INSTRUCT}


def test_end_points_score_0_and_1_without_error() -> None:
    result = evaluate([THINKING, INSTRUCT], normalisation(OBJECTIVES, END_POINTS))
    np.testing.assert_allclose(result.Y, [[1, 0], [0, 1]], atol=1e-12)
    assert (result.stderr == 0).all()
    assert (result.repeat_variance > 0).all()


def test_objective_is_the_mean_over_benchmarks() -> None:
    candidate = scores("c", gpqa=benchmark(0.6, 22), aime=benchmark(0.1, 120))
    result = evaluate([candidate], normalisation(OBJECTIVES, END_POINTS))
    np.testing.assert_allclose(result.Y, [[(0.5 + 0) / 2, (0.5 - 0.25) / 2]])


@given(st.floats(0, 1), st.floats(1, 200))
def test_more_is_better_in_every_objective(accuracy: float, tokens: float) -> None:
    worse = scores("w", gpqa=benchmark(accuracy, tokens), aime=benchmark(0.3, 50))
    better = scores("b", gpqa=benchmark(accuracy + 0.1, tokens - 1), aime=benchmark(0.3, 50))
    first, second = evaluate([worse, better], normalisation(OBJECTIVES, END_POINTS)).Y
    assert (second > first).all()


def test_chosen_benchmarks_alone_count() -> None:
    objectives = {"reasoning": {**OBJECTIVES["reasoning"], "benchmarks": ["aime"]}}
    candidate = scores("c", gpqa=benchmark(0.0, 22), aime=benchmark(0.6, 120))
    assert evaluate([candidate], normalisation(objectives, END_POINTS)).Y.tolist() == [[1.0]]


def test_standard_errors_agree_with_simulation() -> None:
    """Errors small beside the gap, where the delta method is exact to first order."""
    candidate = scores("c", gpqa=benchmark(0.65, 30, accuracy_stderr=0.015), aime=benchmark(0.5, 70))
    stderr = evaluate([candidate], normalisation(OBJECTIVES, END_POINTS)).stderr[0]

    random = np.random.default_rng(0)
    draws = {"reasoning": 0.0, "efficiency": 0.0}
    for name, spec in OBJECTIVES.items():
        metric = spec["metric"]
        for b in ("gpqa", "aime"):
            s, base, expert = (
                row["benchmarks"][b][metric]
                + row["benchmarks"][b][f"{metric}_stderr"] * random.standard_normal(200_000)
                for row in (candidate, END_POINTS[spec["base"]], END_POINTS[spec["expert"]])
            )
            draws[name] = draws[name] + (s - base) / (expert - base) / 2
    np.testing.assert_allclose(stderr, [np.std(draws["reasoning"]), np.std(draws["efficiency"])], rtol=0.02)


def test_recorded_repeat_variance_goes_through_the_normalisation() -> None:
    row = benchmark(0.6, 22, accuracy_repeat_variance=4e-4, tokens_repeat_variance=0.09)
    candidate = scores("c", gpqa=row, aime=row)
    variance = evaluate([candidate], normalisation(OBJECTIVES, END_POINTS)).repeat_variance
    expected = [
        (4e-4 / 0.4**2 + 4e-4 / 0.5**2) / 4,
        (0.09 / 36**2 + 0.09 / 80**2) / 4,
    ]
    np.testing.assert_allclose(variance, [expected])


def test_without_repeats_a_share_of_the_binomial_variance() -> None:
    objectives = {name: {**spec, "benchmarks": ["gpqa"]} for name, spec in OBJECTIVES.items()}
    scale = normalisation(objectives, END_POINTS)
    candidate = scores("c", gpqa=benchmark(0.5, 22, tokens_stderr=0.6))
    variance = evaluate([candidate], scale, noise_share=0.3).repeat_variance
    np.testing.assert_allclose(variance, [[0.3 * 0.25 / 150 / 0.4**2, 0.3 * 0.6**2 / 36**2]])
    perfect = scores("p", gpqa=benchmark(1.0, 22))
    assert evaluate([perfect], scale).repeat_variance[0, 0] > 0


def test_no_candidates_give_empty_arrays() -> None:
    result = evaluate([], normalisation(OBJECTIVES, END_POINTS))
    assert [array.shape for array in result] == [(0, 2)] * 3


def test_failed_evaluations_have_no_objectives() -> None:
    failed = {"id": "f", "status": "failed", "reason": "out of memory"}
    with pytest.raises(ValueError, match="f has no scores: out of memory"):
        evaluate([failed], normalisation(OBJECTIVES, END_POINTS))
    with pytest.raises(BadInput, match="'thinking': failed \\(out of memory\\)"):
        normalisation(OBJECTIVES, {**END_POINTS, "thinking": failed})


def test_gaps_are_printed() -> None:
    text = describe(normalisation(OBJECTIVES, END_POINTS))
    assert "reasoning, gpqa: accuracy of expert thinking 0.8, of base instruct 0.4; gap 0.4 ± 0.028" in text
    assert "efficiency, aime: tokens of expert instruct 20, of base thinking 100; gap 80 ± 0.71" in text
    assert "warning" not in text


@pytest.mark.parametrize("difference", [0.05, -0.05])
def test_a_gap_under_two_standard_errors_is_a_warning_with_remedies(difference: float) -> None:
    weak = scores("t", gpqa=benchmark(0.4 + difference, 40), aime=benchmark(0.6, 100))
    scale = normalisation(OBJECTIVES, {**END_POINTS, "thinking": weak})
    (warning,) = scale["warnings"]
    assert "objectives.reasoning" in warning
    assert "benchmark gpqa" in warning
    assert f"{difference / 0.02 / np.sqrt(2):.1f} standard errors" in warning
    assert "more repeats or questions, or drop the benchmark" in warning
    assert f"warning: {warning}" in describe(scale)


def test_swapped_expert_and_base_are_an_error() -> None:
    swapped = {"reasoning": {**OBJECTIVES["reasoning"], "expert": "instruct", "base": "thinking"}}
    with pytest.raises(BadInput, match=r"objectives\.reasoning: .*benchmark gpqa.*swapped"):
        normalisation(swapped, END_POINTS)
    swapped = {"efficiency": {**OBJECTIVES["efficiency"], "expert": "thinking", "base": "instruct"}}
    with pytest.raises(BadInput, match=r"objectives\.efficiency: tokens .*swapped"):
        normalisation(swapped, END_POINTS)


def test_no_gap_is_an_error() -> None:
    equal = scores("t", gpqa=benchmark(0.4, 40), aime=benchmark(0.6, 100))
    with pytest.raises(BadInput, match=r"objectives\.reasoning: .*benchmark gpqa.*no gap"):
        normalisation(OBJECTIVES, {**END_POINTS, "thinking": equal})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "accurate"}, r"objectives\.reasoning\.metric: 'accurate' .* 'accuracy'\?"),
        ({"expert": "think"}, r"objectives\.reasoning\.expert: 'think' .* 'thinking'\?"),
        ({"benchmarks": ["aime25"]}, r"objectives\.reasoning\.benchmarks: 'aime25' .* 'aime'\?"),
    ],
)
def test_unknown_names_are_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        normalisation({"reasoning": {**OBJECTIVES["reasoning"], **change}}, END_POINTS)
