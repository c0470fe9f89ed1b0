"""The simulated landscapes of the search benchmark: truth, noise, pairing, and what searches are told."""

import numpy as np
import pytest
from bambo.objectives import NOISE_SHARE
from bambo.pareto import hypervolume
from hypothesis import given
from hypothesis import strategies as st
from landscape import (
    ACCURACY,
    GROUPS,
    QUESTIONS,
    REFERENCE,
    TOKENS,
    Landscape,
    blockwise,
    layerwise,
    normalised,
    questions_asked,
)
from scipy.stats import norm

seeds = st.integers(0, 200)


def points(n: int, seed: int = 0, dimension: int = GROUPS) -> np.ndarray:
    return np.random.default_rng(seed).random((n, dimension))


def everywhere(value: float) -> np.ndarray:
    return np.full((1, GROUPS), value)


@given(seeds)
def test_end_points_are_those_of_the_paper_in_every_landscape(seed: int) -> None:
    landscape = Landscape(seed)
    ends = np.vstack([everywhere(0), everywhere(1)])
    np.testing.assert_allclose(landscape.accuracy(ends), ACCURACY)
    np.testing.assert_allclose(landscape.tokens(ends), TOKENS)
    np.testing.assert_allclose(landscape.true(ends), [[0, 1], [1, 0]], atol=1e-12)


def test_same_seed_same_landscape_and_another_seed_another() -> None:
    X = points(5)
    np.testing.assert_array_equal(Landscape(3).true(X), Landscape(3).true(X))
    np.testing.assert_array_equal(Landscape(3).observe(X).Y, Landscape(3).observe(X).Y)
    assert not np.allclose(Landscape(3).true(X), Landscape(4).true(X))


@given(seeds)
def test_one_point_scores_alike_alone_and_among_others(seed: int) -> None:
    X = points(4, seed)
    landscape = Landscape(seed)
    np.testing.assert_allclose(landscape.observe(X).Y[2], landscape.observe(X[[2]]).Y[0], atol=1e-12)


def test_accuracy_saturates_and_tokens_rise() -> None:
    steps = np.linspace(0, 1, 11)
    for seed in range(5):
        landscape = Landscape(seed)
        Y = landscape.true(np.vstack([everywhere(step) for step in steps]))
        assert (np.diff(Y[:, 1]) < 0).all()
        assert Y[5, 0] > 0.6  # half the weight gives far more than half of the accuracy


@given(seeds)
def test_neighbours_at_odds_lose_accuracy_and_no_tokens(seed: int) -> None:
    landscape = Landscape(seed)
    landscape.bend[:] = 0.0
    landscape.accuracy_importance[:] = landscape.token_importance[:] = 1 / GROUPS
    calm, torn = everywhere(0.5), np.resize([0.0, 1.0], (1, GROUPS))
    assert (landscape.accuracy(torn) < landscape.accuracy(calm)).all()
    np.testing.assert_allclose(landscape.tokens(torn), landscape.tokens(calm))


def test_layers_matter_unequally_and_otherwise_for_tokens() -> None:
    accuracy = np.concatenate([Landscape(seed).accuracy_importance.mean(axis=0) for seed in range(20)])
    tokens = np.concatenate([Landscape(seed).token_importance.mean(axis=0) for seed in range(20)])
    assert np.median(accuracy) < 0.7 / GROUPS < 3 / GROUPS < accuracy.max()
    assert 0.0 < np.corrcoef(np.log(accuracy), np.log(tokens))[0, 1] < 0.6


def test_level_0_is_the_truth() -> None:
    landscape = Landscape(1, noise=0.0)
    found = landscape.observe(points(6))
    np.testing.assert_allclose(found.Y, landscape.true(points(6)), atol=1e-12)
    assert (found.told == 0).all()


def test_errors_have_the_scales_of_the_paper_and_the_share_that_the_level_says() -> None:
    x = everywhere(0.62)
    errors = {}
    for level in (1.0, 0.25):
        landscapes = [Landscape(seed, level) for seed in range(300)]
        errors[level] = np.array([each.observe(x).Y[0] - each.true(x)[0] for each in landscapes])
    np.testing.assert_allclose(errors[0.25], errors[1.0] / 2, atol=1e-12)
    assert np.abs(errors[1.0].mean(axis=0)) == pytest.approx([0, 0], abs=0.05)
    assert errors[1.0].std(axis=0) == pytest.approx([0.27, 0.033], rel=0.15)


def test_variance_of_one_benchmark_is_binomial() -> None:
    x = everywhere(0.4)
    shares = [Landscape(seed, 1.0).answers(x)[1].right.mean() for seed in range(600)]
    p = np.mean([Landscape(seed).accuracy(x)[0, 1] for seed in range(600)])
    assert np.mean(shares) == pytest.approx(p, abs=0.012)
    assert np.var(shares) == pytest.approx(p * (1 - p) / QUESTIONS[1], rel=0.2)


def test_candidates_are_paired_on_the_same_questions() -> None:
    landscape = Landscape(2, noise=1.0)
    X = np.clip(everywhere(0.5) + 1e-5 * np.arange(400)[:, None], 0, 1)
    right = landscape.answers(X)[0].right
    own = right.mean(axis=1).var(ddof=1) * QUESTIONS[0]
    p = right.mean()
    assert own / (p * (1 - p)) == pytest.approx(0.5, abs=0.1)  # independent answers: 1
    # Half of what tells two candidates apart is gone.
    independent = np.sqrt(2 * p * (1 - p) / QUESTIONS[0]) / (2 * (ACCURACY[1, 0] - ACCURACY[0, 0]))
    paired = np.sqrt((right[:1] - right[1:]).var(axis=1, ddof=1) / QUESTIONS[0])
    assert paired.mean() / (2 * (ACCURACY[1, 0] - ACCURACY[0, 0])) < 0.85 * independent


def test_told_variance_is_what_a_workflow_reckons() -> None:
    landscape = Landscape(5, noise=0.25)
    X = points(3)
    expected = np.zeros((3, 2))
    for b, answers in enumerate(landscape.answers(X)):
        n = QUESTIONS[b]
        p = (answers.right.sum(axis=1) + 1) / (n + 2)
        expected[:, 0] += p * (1 - p) / n / (2 * (ACCURACY[1, b] - ACCURACY[0, b])) ** 2
        stderr = answers.tokens.std(axis=1, ddof=1) / np.sqrt(n)
        expected[:, 1] += (stderr / (2 * (TOKENS[1, b] - TOKENS[0, b]))) ** 2
    np.testing.assert_allclose(landscape.observe(X).told, NOISE_SHARE * expected)


def test_objectives_are_the_sums_of_what_each_question_adds() -> None:
    landscape, X = Landscape(6), points(3)
    for x, y in zip(X, landscape.observe(X).Y, strict=True):
        terms = landscape.terms(x)
        assert [len(own) for own in terms.values()] == list(QUESTIONS)
        np.testing.assert_allclose(sum(own.mean(axis=0) for own in terms.values()), y)
        first = landscape.terms(x, 0.25)
        for name, own in terms.items():
            np.testing.assert_allclose(first[name], own[: len(first[name])])


def test_a_share_of_the_questions_keeps_its_answers_when_the_rest_is_asked() -> None:
    landscape, X = Landscape(7), points(3)
    assert questions_asked(0.25) == [50, 8]
    for part, whole in zip(landscape.answers(X, 0.25), landscape.answers(X), strict=True):
        asked = part.right.shape[1]
        np.testing.assert_array_equal(part.right, whole.right[:, :asked])
        np.testing.assert_array_equal(part.tokens, whole.tokens[:, :asked])
    first, whole = landscape.observe(X, 0.25), landscape.observe(X)
    assert (first.tokens < 0.4 * whole.tokens).all()
    assert (first.seconds < whole.seconds).all()
    assert (first.told > 2 * whole.told).all()


def test_a_repeat_draws_own_parts_anew_on_the_same_questions() -> None:
    landscape, x = Landscape(7), everywhere(0.5)
    again, first = landscape.answers(x, repeat=1)[0].right, landscape.answers(x)[0].right
    assert 0.1 < (again != first).mean() < 0.45  # of independent answers about .45


def test_durations_follow_tokens() -> None:
    found = Landscape(0).observe(np.vstack([everywhere(0), everywhere(1)]))
    assert found.seconds[0] < 15 * 60 < 45 * 60 < found.seconds[1]
    assert np.corrcoef(found.tokens, found.seconds)[0, 1] > 0.99


def test_estimated_importance_is_near_the_truth_with_the_stated_error() -> None:
    correlations = []
    for landscape in map(Landscape, range(60)):
        true = landscape.accuracy_importance.mean(axis=0) * landscape.token_importance.mean(axis=0)
        correlations.append(np.corrcoef(np.log(landscape.importance), np.log(true))[0, 1])
        assert landscape.importance.min() >= 0.05
        assert landscape.importance.max() <= 1
    assert np.mean(correlations) == pytest.approx(0.7, abs=0.06)


@given(seeds, st.sampled_from([4, 6, 12]))
def test_a_block_point_is_a_layer_point(seed: int, n_blocks: int) -> None:
    landscape = Landscape(seed)
    problem = blockwise(landscape, n_blocks)
    assert problem.dimension == n_blocks + 2
    assert [group for part in problem.parts for group in part] == list(range(GROUPS))
    X = points(3, seed, problem.dimension)
    wide = problem.layers(X)
    for column, part in enumerate(problem.parts):
        assert (wide[:, list(part)] == X[:, [column]]).all()
    np.testing.assert_array_equal(problem.true(X), layerwise(landscape).true(wide))
    np.testing.assert_array_equal(problem.observe(X).Y, layerwise(landscape).observe(wide).Y)
    assert problem.importance.shape == (problem.dimension,)


def test_objectives_are_means_over_benchmarks() -> None:
    half = (ACCURACY[:1] + ACCURACY[1:]) / 2
    one = np.array([[ACCURACY[1, 0], ACCURACY[0, 1]]])  # an expert in the first benchmark alone
    np.testing.assert_allclose(normalised(half, TOKENS[:1]), [[0.5, 1.0]])
    np.testing.assert_allclose(normalised(one, TOKENS[1:]), [[0.5, 0.0]], atol=1e-12)


def test_shared_part_of_the_noise_is_the_stated_one() -> None:
    # Covariance of two answers to one question, by the mean over difficulties of squared chances.
    for ability in (0.0, 0.3):
        d = np.random.default_rng(0).standard_normal(200_000)
        chance = norm.cdf((ability - np.sqrt(0.7) * d) / np.sqrt(0.3))
        p = norm.cdf(ability)
        assert chance.mean() == pytest.approx(p, abs=0.003)
        assert chance.var() / (p * (1 - p)) == pytest.approx(0.49, abs=0.01)


def test_one_weight_for_all_reaches_less_than_unequal_ones() -> None:
    grid = np.vstack([everywhere(step) for step in np.linspace(0, 1, 88)])
    for seed in range(3):
        landscape = Landscape(seed)
        ratio = landscape.accuracy_importance.mean(axis=0) / landscape.token_importance.mean(axis=0)
        order = np.argsort(np.argsort(-ratio))
        chosen = np.array([(order < count).astype(float) for count in range(GROUPS + 1)])
        soft = (chosen + grid[: GROUPS + 1]) / 2
        best = hypervolume(landscape.true(np.vstack([grid, chosen, soft])), REFERENCE)
        assert best > hypervolume(landscape.true(grid), REFERENCE) + 0.01
