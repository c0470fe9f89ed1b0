"""Normalised objectives, their errors, and the checks of the end points."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bambo.errors import BadInput
from bambo.evaluation.scores import benchmark_scores, generation_scores
from bambo.objectives import METRICS, cost, describe, evaluate, normalisation
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
        ({"metric": "accurate"}, r"objectives\.reasoning\.metric: 'accurate' is no .*gpqa.* 'accuracy'\?"),
        ({"expert": "think"}, r"objectives\.reasoning\.expert: 'think' .* 'thinking'\?"),
        ({"benchmarks": ["aime25"]}, r"objectives\.reasoning\.benchmarks: 'aime25' .* 'aime'\?"),
    ],
)
def test_unknown_names_are_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        normalisation({"reasoning": {**OBJECTIVES["reasoning"], **change}}, END_POINTS)


# Metrics beside accuracy and tokens

PRICES = {"gpu_hour": 3.6, "input_tokens": 2.0, "output_tokens": 8.0}
SOURCES = {"expert": "instruct", "base": "thinking"}


def whole(id: str, tokens: float, device: str = "H100", **others: Any) -> dict[str, Any]:
    """Scores with every metric: latency and FLOPs grow with tokens."""
    row = benchmark(0.5, tokens, repeats=2, prompt_tokens=100.0, prompt_tokens_stderr=4.0)
    row |= {"prompt_tokens_covariance": -0.7, "tokens_repeat_variance": 0.04}
    for metric, factor in [("latency", 0.1), ("flops", 1e9), ("tokens_per_correct", 2.0)]:
        row |= {metric: factor * tokens, f"{metric}_stderr": factor * 0.5, f"{metric}_repeat_variance": None}
    row |= {"f1,none": 0.2, "f1,none_stderr": 0.01, "f1,none_repeat_variance": None}
    for reading in ("strict", "loose"):
        row |= {f"em,{reading}": tokens / 100, f"em,{reading}_stderr": 0.01}
    made = scores(id, gpqa=row, aime=dict(row))
    made |= {"device": device, "gpus": 2, "generation_seconds": 1.5 * tokens}
    return made | {"throughput": 1000 / tokens, "energy": 3.0 * tokens, "peak_memory_gb": 10.0, **others}


ENDS = {"thinking": whole("t", 80), "instruct": whole("i", 20)}


@pytest.mark.parametrize("metric", ["latency", "flops", "tokens_per_correct", "cost", "energy", "em,loose"])
def test_what_grows_with_tokens_is_an_objective_as_tokens_are(metric: str) -> None:
    spec = {"metric": metric, **SOURCES, "direction": "min" if metric == "em,loose" else None}
    scale = normalisation({"o": spec}, ENDS, {"output_tokens": 8.0, "input_tokens": 2.0})
    assert scale["warnings"] == []
    result = evaluate([*ENDS.values(), whole("c", 35)], scale)
    np.testing.assert_allclose(result.Y[:, 0], [0, 1, 0.75])
    assert (result.repeat_variance > 0).all()


def test_throughput_grows_with_less_tokens() -> None:
    scale = normalisation({"speed": {"metric": "throughput", **SOURCES}}, ENDS)
    assert list(scale["objectives"]["speed"]["benchmarks"]) == [""]
    result = evaluate([whole("c", 40)], scale)
    np.testing.assert_allclose(result.Y, [[(1 / 40 - 1 / 80) / (1 / 20 - 1 / 80)]])
    assert np.isnan(result.stderr).all()
    # Measured once: 2 % of its value from one time to the next.
    np.testing.assert_allclose(result.repeat_variance, [[(0.02 * 25 / (1000 / 20 - 1000 / 80)) ** 2]])
    assert "speed: throughput of expert instruct 50, of base thinking 12.5; gap 37.5" in describe(scale)


def test_a_gap_within_the_noise_of_measuring_is_a_warning() -> None:
    near = {**ENDS, "instruct": whole("i", 20, energy=236.0)}
    scale = normalisation({"frugal": {"metric": "energy", **SOURCES}}, near)
    (warning,) = scale["warnings"]
    assert warning.startswith(
        "objectives.frugal: energy of expert instruct is 236, of base thinking 240, a gap"
    )


def test_cost_is_time_and_tokens() -> None:
    found = cost(whole("c", 50), "gpqa", PRICES)
    answers = 2 * 150 * 2
    gpu = 3.6 * 2 * 75 / 3600 / (answers * 50)  # of an output token
    assert found.value == pytest.approx((gpu + 8e-6) * 50 + 2e-6 * 100)
    variance = (gpu + 8e-6) ** 2 * 0.5**2 + 2e-6**2 * 4**2 + 2 * (gpu + 8e-6) * 2e-6 * -0.7
    assert found.stderr == pytest.approx(np.sqrt(variance))
    assert found.repeat_variance == pytest.approx((gpu + 8e-6) ** 2 * 0.04)
    # All answers together cost what was spent.
    total = answers * cost(whole("c", 50), "gpqa", {"gpu_hour": 3.6}).value
    assert total == pytest.approx(3.6 * 2 * 75 / 3600)
    assert cost(whole("c", 50), "gpqa", {}).value == 0


@given(st.floats(1, 100), st.floats(0, 10), st.floats(0, 10))
def test_a_price_more_costs_more(tokens: float, price: float, more: float) -> None:
    row = whole("c", tokens)
    for key in ("gpu_hour", "input_tokens", "output_tokens"):
        assert cost(row, "aime", {key: price}).value <= cost(row, "aime", {key: price + more}).value


def test_a_metric_of_the_harness_by_its_name_or_by_its_filter() -> None:
    better = {**ENDS, "instruct": whole("i", 20)}
    for part in better["instruct"]["benchmarks"].values():
        part["f1,none"] = 0.6
    for metric in ("f1", "f1,none"):
        scale = normalisation({"o": {"metric": metric, **SOURCES}}, better)
        np.testing.assert_allclose(evaluate([whole("c", 9)], scale).Y, [[0.0]])
    with pytest.raises(
        BadInput, match=r"o\.metric: benchmark gpqa reads 'em' in several ways, .*'em,strict'"
    ):
        normalisation({"o": {"metric": "em", **SOURCES}}, ENDS)
    with pytest.raises(BadInput, match=r"'em,lose' is no metric of benchmark gpqa, .*is it 'em,loose'\?"):
        normalisation({"o": {"metric": "em,lose", **SOURCES}}, ENDS)


def test_the_direction_can_be_turned() -> None:
    spec = {"metric": "tokens", "expert": "thinking", "base": "instruct"}
    with pytest.raises(BadInput, match="swapped"):
        normalisation({"long": spec}, ENDS)
    scale = normalisation({"long": {**spec, "direction": "max"}}, ENDS)
    np.testing.assert_allclose(evaluate([whole("c", 80)], scale).Y, [[1.0]])


@pytest.mark.parametrize("metric", ["latency", "throughput", "energy", "peak_memory_gb", "cost"])
def test_measurements_of_two_devices_are_not_mixed(metric: str) -> None:
    ends = {**ENDS, "instruct": whole("i", 20, peak_memory_gb=5.0)}
    objectives = {"o": {"metric": metric, **SOURCES}}
    scale = normalisation(objectives, ends, PRICES)
    with pytest.raises(
        BadInput, match=rf"objectives\.o: {metric} .* candidate c .* on A100, .* i and t on H100"
    ):
        evaluate([whole("c", 30, "A100")], scale)
    mixed = {**ends, "thinking": whole("t", 80, "A100")}
    with pytest.raises(BadInput, match=r"instruct \(i\) was evaluated on H100, base thinking \(t\) on A100"):
        normalisation(objectives, mixed, PRICES)


@pytest.mark.parametrize("metric", ["tokens", "flops", "tokens_per_correct", "cost"])
def test_what_no_device_decides_may_be_of_several(metric: str) -> None:
    mixed = {**ENDS, "thinking": whole("t", 80, "A100")}
    scale = normalisation({"o": {"metric": metric, **SOURCES}}, mixed, {"output_tokens": 1.0})
    assert np.isfinite(evaluate([whole("c", 30, "H200")], scale).Y).all()


def test_a_value_that_is_not_known_is_an_error_that_says_why() -> None:
    objectives = {"frugal": {"metric": "energy", **SOURCES}}
    with pytest.raises(BadInput, match=r"energy of candidate c, on H100, is not known: .* no energy meter"):
        evaluate([whole("c", 30, energy=None)], normalisation(objectives, ENDS))
    with pytest.raises(BadInput, match=r"objectives\.frugal: energy of candidate t, on H100, is not known"):
        normalisation(objectives, {**ENDS, "thinking": whole("t", 80, energy=None)})


def test_a_source_without_a_right_answer_sets_no_scale_of_tokens_per_right_answer() -> None:
    wrong = whole("t", 80)
    wrong["benchmarks"]["aime"]["accuracy"] = 0.0
    with pytest.raises(BadInput, match=r"no answer of source thinking to benchmark aime is right"):
        normalisation({"o": {"metric": "tokens_per_correct", **SOURCES}}, {**ENDS, "thinking": wrong})


def test_one_question_has_no_error_and_no_crash() -> None:
    one = {"accuracy_stderr": None, "tokens_stderr": None, "questions": 1}
    ends = {
        "thinking": scores("t", gpqa=benchmark(1.0, 40, **one)),
        "instruct": scores("i", gpqa=benchmark(0.0, 4, **one)),
    }
    scale = normalisation(OBJECTIVES, ends)
    result = evaluate([scores("c", gpqa=benchmark(0.0, 22, **one))], scale)
    np.testing.assert_allclose(result.Y, [[0.0, 0.5]])
    assert np.isnan(result.stderr).all()
    assert (result.repeat_variance > 0).all()


def test_every_metric_is_in_scores_and_in_the_docs() -> None:
    rows = [
        {
            "question": n,
            "correct": 1.0,
            "output_tokens": 5,
            "prompt_tokens": 3,
            "seconds": 1.0,
            "finish_reason": "eos",
        }
        for n in range(2)
    ]
    recorded = {*benchmark_scores(rows), *generation_scores(Counter(), 1), "cost", "peak_memory_gb"}
    assert recorded >= METRICS.keys()
    text = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    assert [name for name in METRICS if f"`{name}`" not in text] == []
