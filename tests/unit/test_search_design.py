"""Initial points, presets and the stop rule."""

import numpy as np
import pytest
from bambo.config.searches import DEFAULT_PRESET
from bambo.search.design import grid, sobol, warm_start
from bambo.search.presets import PRESETS
from bambo.search.stopping import stalled
from bambo.space import expand, rounded, variables
from fake_run import SOURCES, VARIABLES
from hypothesis import given
from hypothesis import strategies as st


def test_warm_start_is_both_ends_the_middle_and_sobol() -> None:
    X, origins = warm_start(VARIABLES["blocks"][:5], SOURCES, 8, seed=0)
    assert X.shape == (8, 5)
    assert origins == ["all-0", "all-1", "balanced"] + ["sobol"] * 5
    assert [set(row) for row in X[:3]] == [{0.0}, {1.0}, {0.5}]
    assert ((X >= 0) & (X <= 1)).all()
    assert len(np.unique(X, axis=0)) == 8


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_warm_start_of_few_points(n: int) -> None:
    X, origins = warm_start(VARIABLES["blocks"][:2], SOURCES, n, seed=0)
    assert X.shape == (n, 2)
    assert origins == ["all-0", "all-1", "balanced", "sobol"][:n]


def test_sobol_points_are_balanced_and_follow_the_seed() -> None:
    X = sobol(3, 64, seed=1)
    for column in X.T:
        assert np.histogram(column, bins=8, range=(0, 1))[0].tolist() == [8] * 8
    assert (sobol(3, 64, seed=1) == X).all()
    assert (sobol(3, 5, seed=1) == X[:5]).all()
    assert (sobol(3, 64, seed=2) != X).any()


def test_grid_has_one_variable() -> None:
    assert grid([0.1, 0.55], VARIABLES["single"]).tolist() == [[0.1], [0.55]]


def test_rounding_keeps_points_in_the_unit_cube_and_zero_unsigned() -> None:
    X = rounded(np.array([[-1e-9, 1 + 1e-9, 0.12345649]]))
    assert X.tolist() == [[0.0, 1.0, 0.123456]]
    assert not np.signbit(X).any()


def test_presets_have_the_same_keys() -> None:
    assert len({frozenset(settings) for settings in PRESETS.values()}) == 1
    assert DEFAULT_PRESET in PRESETS


def test_stop_rule_asks_for_growth_over_the_last_iterations() -> None:
    growing = [0.5, 0.6, 0.61, 0.611]
    assert not stalled(growing, growth=0.01, iterations=2)  # 0.611 against 0.6: 1.8 %
    assert stalled(growing, growth=0.02, iterations=2)
    assert stalled(growing, growth=0.01, iterations=1)
    assert not stalled(growing, growth=0.5, iterations=4)  # too early to say
    assert stalled([0.0, 0.0], growth=0.01, iterations=1)


@given(st.lists(st.floats(0, 2), min_size=3, max_size=8).map(sorted), st.integers(1, 3))
def test_no_growth_at_all_always_stops(values: list[float], iterations: int) -> None:
    assert stalled([*values, *[values[-1]] * iterations], growth=0.0, iterations=iterations)


# Several sources and searched parameters

THREE = ["a", "b", "c"]
PART = [{"name": "model", "groups": ["all"]}]
TIES = {"method": "ties", "density": {"min": 0.2, "max": 0.6}, "lambda": 1.0}


def test_warm_start_of_three_sources() -> None:
    found = variables([*PART, {"name": "head", "groups": ["head"]}], THREE, TIES)
    X, origins = warm_start(found, THREE, 9, seed=0)
    assert origins == ["all-c", "all-a", "all-b", "balanced"] + ["sobol"] * 5
    assert X[:, 2].tolist()[:4] == [0.5] * 4  # a parameter, in its middle
    assert X[0].tolist() == [0, 0, 0.5] * 2
    assert X[1].tolist() == [1, 0, 0.5] * 2
    assert X[2].tolist() == [0, 1, 0.5] * 2
    assert X[3].tolist() == [0.333333, 0.5, 0.5] * 2
    assert (X.round(6) == X).all()


def test_sobol_points_are_uniform_in_the_weights_of_three_sources() -> None:
    found = variables(PART, THREE, {"method": "linear"})
    X, _ = warm_start(found, THREE, 4 + 512, seed=0)
    weights = np.array([expand(x, found, {"method": "linear"}).weights["all"] for x in X[4:].tolist()])
    np.testing.assert_allclose(weights.mean(axis=0), 1 / 3, atol=0.005)


@pytest.mark.parametrize(
    "weights", [[0.2, 0.3, 0.5], [0, 0, 1], [0, 0.7, 0.3], [0.3, 0.3, 0.4], [0.9, 0.1, 0]]
)
def test_grid_of_three_sources(weights: list[float]) -> None:
    found = variables(PART, THREE, {"method": "linear"})
    [point] = grid([weights], found)
    np.testing.assert_allclose(expand(point, found, {"method": "linear"}).weights["all"], weights, atol=5e-7)
