"""What the first questions say of all: unbiased, with the error of a finite population, and paired."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from bambo.objectives import Evaluation, evaluate
from bambo.search.staging import Difference, difference, judge, terms
from fake_run import OBJECTIVES
from scipy.stats import norm

SIZES = {"gpqa": 60, "aime": 20}
NORMALISATION: dict[str, Any] = {
    "objectives": {
        name: {
            "metric": spec["metric"],
            "device": None,
            "benchmarks": {
                "gpqa": {"expert": expert, "base": base, "gap": abs(expert - base)},
                "aime": {"expert": expert, "base": base, "gap": abs(expert - base)},
            },
        }
        for (name, spec), (expert, base) in zip(OBJECTIVES.items(), [(0.9, 0.2), (100, 900)], strict=True)
    }
}


def answers(ability: float, length: float, seed: int, sizes: dict[str, int] = SIZES) -> pd.DataFrame:
    """Questions of a difficulty that all share, answered with luck of one's own."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    rows = []
    for benchmark, count in SIZES.items():
        for question in range(count):
            difficulty, factor = shared.normal(), np.exp(0.5 * shared.normal())
            right = own.random() < 1 / (1 + np.exp(2 * difficulty - ability))
            tokens = round(length * factor * np.exp(0.1 * own.normal()))
            if question < sizes[benchmark]:
                rows.append((benchmark, question, 0, float(right), tokens))
    return pd.DataFrame(rows, columns=["benchmark", "question", "repeat", "correct", "output_tokens"])


def objectives(rows: pd.DataFrame) -> np.ndarray:
    means = rows.groupby("benchmark")[["correct", "output_tokens"]].mean()
    return np.array(
        [
            np.mean([(means.loc[b, "correct"] - 0.2) / 0.7 for b in SIZES]),
            np.mean([(900 - means.loc[b, "output_tokens"]) / 800 for b in SIZES]),
        ]
    )


def exact(Y: np.ndarray) -> Evaluation:
    return Evaluation(Y, np.zeros_like(Y), np.zeros_like(Y))


def first(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    return rows[rows["question"] < share * rows["benchmark"].map(SIZES)]


def test_terms_add_up_to_the_objectives() -> None:
    one, two = answers(1, 300, 1), answers(-1, 500, 2)
    found = difference(terms(one, NORMALISATION), terms(two, NORMALISATION))
    np.testing.assert_allclose(found.mean, objectives(one) - objectives(two))
    np.testing.assert_array_equal(found.covariance, 0)  # all questions were asked


def test_objectives_of_one_benchmark_see_no_other() -> None:
    specs = NORMALISATION["objectives"]
    one = next(iter(specs))
    own = {**specs, one: {**specs[one], "benchmarks": {"aime": specs[one]["benchmarks"]["aime"]}}}
    found = terms(answers(0, 300, 1), {"objectives": own})
    assert (found["gpqa"][:, 0] == 0).all()
    assert found["aime"][:, 0].max() == pytest.approx(1 / 0.7)


def test_a_share_estimates_the_whole_with_the_error_it_states() -> None:
    """Over many candidates: no bias, and errors of the size that is said."""
    whole = terms(answers(0, 400, 0), NORMALISATION)
    generator = np.random.default_rng(5)
    scaled = []
    for seed in range(1, 200):
        rows = answers(generator.normal(), 400 * np.exp(0.3 * generator.normal()), seed)
        # Which questions come first is drawn anew.
        order = {b: generator.permutation(count) for b, count in SIZES.items()}
        both = [{b: each[b][order[b]] for b in SIZES} for each in (terms(rows, NORMALISATION), whole)]
        part = {b: both[0][b][: count // 2] for b, count in SIZES.items()}
        found, true = difference(part, both[1]), difference(*both)
        scaled.append((found.mean - true.mean) / np.sqrt(found.covariance.diagonal()))
    assert np.abs(np.mean(scaled, axis=0)).max() < 0.3
    assert np.std(scaled, axis=0) == pytest.approx(np.ones(2), abs=0.2)


def test_pairing_makes_the_error_smaller() -> None:
    """Lengths are mostly the question's, so that they differ evenly."""
    one, two = (terms(answers(0, 400, seed), NORMALISATION) for seed in (1, 2))
    part = {b: own[: len(own) // 2] for b, own in one.items()}
    unpaired = sum((part[b].var(axis=0) + two[b].var(axis=0)) / len(part[b]) / 2 for b in SIZES)
    assert difference(part, two).covariance[1, 1] < 0.2 * unpaired[1]


def test_domination_is_the_normal_probability() -> None:
    found = Difference(np.array([0.5, -0.2]), np.diag([0.25, 0.04]))
    assert found.dominated == pytest.approx(norm.cdf(-1) * norm.cdf(1), abs=1e-6)
    assert Difference(np.array([-0.1, -0.1]), np.zeros((2, 2))).dominated == pytest.approx(1)
    assert Difference(np.array([-0.1, 0.1]), np.zeros((2, 2))).dominated == pytest.approx(0)


def test_one_question_says_nothing() -> None:
    whole = terms(answers(0, 400, 1), NORMALISATION)
    part = {b: own[:1] for b, own in terms(answers(-9, 4000, 2), NORMALISATION).items()}
    assert difference(part, whole).dominated == 0


def test_what_is_worse_is_left_and_what_may_be_better_is_not() -> None:
    rows = [answers(2, 300, 1), answers(-2, 150, 2), answers(0, 600, 3)]
    wholes = [terms(each, NORMALISATION) for each in rows]
    Y = np.array([objectives(each) for each in rows])
    worse, better = answers(-1, 500, 4), answers(3, 250, 5)
    judged = judge(terms(first(worse, 0.25), NORMALISATION), wholes, exact(Y))
    assert judged.probability > 0.95
    assert judged.by == 0
    assert judge(terms(first(better, 0.25), NORMALISATION), wholes, exact(Y)).probability < 0.5
    assert np.abs(judged.Y - objectives(worse)).max() < 3 * np.sqrt(judged.variance.max())


def test_a_dominated_candidate_is_no_judge() -> None:
    rows = [answers(2, 300, 1), answers(0, 600, 3)]
    wholes, Y = [terms(each, NORMALISATION) for each in rows], np.array([objectives(each) for each in rows])
    assert judge(terms(first(answers(-1, 900, 4), 0.25), NORMALISATION), wholes, exact(Y)).by == 0


def test_objectives_here_are_those_of_the_tables() -> None:
    rows = answers(1, 300, 1)
    scores = {
        "id": "c",
        "status": "ok",
        "benchmarks": {
            b: {
                "accuracy": part["correct"].mean(), "accuracy_stderr": 0.1, "accuracy_repeat_variance": None,
                "tokens": part["output_tokens"].mean(), "tokens_stderr": 1.0, "tokens_repeat_variance": None,
                "questions": len(part), "repeats": 1,
            }
            for b, part in rows.groupby("benchmark")
        },
    }  # fmt: skip
    full = {"prices": {}, **NORMALISATION}
    for spec in full["objectives"].values():
        spec.update(expert_id="e", base_id="b")
        for gap in spec["benchmarks"].values():
            gap.update(gap_stderr=0.1, expert_stderr=0.1, base_stderr=0.1)
    np.testing.assert_allclose(evaluate([scores], full).Y[0], objectives(rows))
