"""Rival optimisers: rebuilt from the observations alone, never the same point twice, and each what its source says."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from bambo.pareto import added_hypervolume, hypervolume
from bambo.search import acquisition, cma_es, map, mm_mo, moead, momm, motpe, nsga2, surrogate
from bambo.search.ask import OPTIMISERS, ask
from bambo.search.design import sobol, warm_start
from bambo.search.presets import PRESETS
from bambo.search.study import Study
from fake_run import SOURCES, plain, toy
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.population import Population
from pymoo.core.problem import Problem

SMALL = {"restarts": 1, "raw_samples": 16, "mc_samples": 8}
CORNER = np.array([-0.1, -0.1])
RIVALS = [name for name in OPTIMISERS if name != "bayesian"]
EVOLUTIONARY = ["nsga2", "moead", "cma-es"]


pytestmark = pytest.mark.usefixtures("one_thread")


def more(X: np.ndarray, m: int) -> np.ndarray:
    return np.column_stack([toy(X), 1 - np.abs(X - 0.5).mean(axis=1), 1 - X[:, 0] ** 2])[:, :m]


def study(dimension: int = 3, n: int = 12, pending: Any = None, f: Callable = toy, **others: Any) -> Study:
    """The initial design, observed without noise."""
    X = warm_start(plain(dimension), SOURCES, n, seed=0)[0]
    Y = f(X)
    pending = X[:0] if pending is None else pending
    known = {"asked": np.concatenate([X, pending]), "pending": pending, "reference": CORNER, "names": "ab"}
    return Study(X, Y, np.full_like(Y, 1e-4), **{**known, **others})


def chosen(optimiser: str, **others: Any) -> dict[str, Any]:
    return {**PRESETS["layer-wise"], **SMALL, "optimiser": optimiser, **others}


def asked(optimiser: str, study: Study, q: int, seed: int = 1) -> np.ndarray:
    return ask(study, q, chosen(optimiser), seed)[0]


def searched(optimiser: str, seed: int, dimension: int = 6, budget: int = 40, f: Callable = toy) -> float:
    """Hypervolume after batches of 4."""
    X = warm_start(plain(dimension), SOURCES, 8, seed)[0]
    while len(X) < budget:
        Y = f(X)
        known = {"asked": X, "pending": X[:0], "reference": CORNER, "names": "ab"}
        settings = chosen(optimiser, seed=seed)
        X = np.concatenate([X, ask(Study(X, Y, 0 * Y, **known), 4, settings, 100 * seed + len(X))[0]])
    return hypervolume(f(X), CORNER)


# ------------------------------------------------------------------------------------------------ every optimiser


@pytest.mark.parametrize("optimiser", RIVALS)
def test_points_are_new_tidy_and_the_same_again(optimiser: str) -> None:
    q = 4 if optimiser not in ("mm-mo", "momm") else 2  # those take their time
    batch, info = ask(study(), q, chosen(optimiser), 1)
    again, same = ask(study(), q, chosen(optimiser), 1)
    assert batch.shape == (q, 3)
    assert batch.dtype == np.float64
    assert ((batch >= 0) & (batch <= 1) & (batch.round(6) == batch)).all()
    assert len(np.unique(np.concatenate([study().asked, batch]), axis=0)) == 12 + q
    assert (batch == again).all()
    assert info == same == json.loads(json.dumps(info))
    assert set(info) == {"surrogate", "acquisition_value", "replaced"}
    # Of a Sobol sequence the next points are what they are; all else follows the seed of the decision.
    assert (asked(optimiser, study(), q, seed=2) == batch).all() == (optimiser == "sobol")


@pytest.mark.parametrize("optimiser", RIVALS)
def test_the_global_random_states_are_left_alone_and_of_no_influence(optimiser: str) -> None:
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    first = asked(optimiser, study(), 2)
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), before[1])
    np.random.seed(4)  # noqa: NPY002
    torch.manual_seed(4)
    assert (asked(optimiser, study(), 2) == first).all()


def test_a_fresh_process_asks_for_the_same() -> None:
    code = (
        "import json, torch; torch.set_num_threads(1)\n"
        "from test_search_rivals import RIVALS, asked, study\n"
        "print(json.dumps({name: asked(name, study(pending=study().X[:2] / 3), 1).tolist() for name in RIVALS}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    for name, points in json.loads(result.stdout).items():
        assert asked(name, study(pending=study().X[:2] / 3), 1).tolist() == points, name


@pytest.mark.parametrize("optimiser", RIVALS)
def test_one_at_a_time_beside_what_is_under_way(optimiser: str) -> None:
    known = study()
    for step in range(3):
        point = asked(optimiser, known, 1)
        pending = np.concatenate([known.pending, point])
        known = study(pending=pending)
        assert len(np.unique(known.asked, axis=0)) == 13 + step


@pytest.mark.parametrize("optimiser", RIVALS)
def test_one_variable_whose_points_come_up_again_and_again(optimiser: str) -> None:
    """Points are tidied to two decimals, of which half are taken: what an optimiser repeats is replaced."""
    taken = np.linspace(0, 1, 101)[::2, None]
    known = study(1, 8, asked=taken, tidy=lambda X: np.clip(X, 0, 1).round(2) + 0.0)
    batch = asked(optimiser, known, 2)
    assert len(np.unique(np.concatenate([taken, batch]), axis=0)) == len(taken) + 2


@pytest.mark.parametrize("optimiser", RIVALS)
@pytest.mark.parametrize("m", [3, 4])
def test_more_objectives(optimiser: str, m: int) -> None:
    known = study(f=lambda X: more(X, m), reference=np.full(m, -0.1), names="abcd"[:m])
    assert asked(optimiser, known, 1).shape == (1, 3)


@pytest.mark.parametrize("optimiser", RIVALS)
def test_observations_without_any_difference(optimiser: str) -> None:
    assert asked(optimiser, study(f=lambda X: np.ones((len(X), 2))), 1).shape == (1, 3)
    assert asked(optimiser, study(f=lambda X: toy(X) - 5, n=2), 1).shape == (1, 3)  # all below the reference


@pytest.mark.parametrize("optimiser", [*EVOLUTIONARY, "motpe", "map"])
def test_it_beats_sobol_at_equal_budget(optimiser: str) -> None:
    seeds = range(3)
    ours = [searched(optimiser, seed) for seed in seeds]
    theirs = [searched("sobol", seed) for seed in seeds]
    assert np.mean(ours) > np.mean(theirs) + 0.01


# --------------------------------------------------------------------------------------------------- each its own


def test_sobol_goes_on_with_the_initial_design() -> None:
    longer = warm_start(plain(3), SOURCES, 20, seed=0)[0]
    assert (asked("sobol", study(n=12), 8) == longer[12:]).all()


def test_survivors_are_those_of_a_pymoo_run() -> None:
    """A whole generation of pymoo's own run and its offspring, given as observations: the same survive."""

    class Toy(Problem):
        def _evaluate(self, x: np.ndarray, out: dict, *_: Any, **__: Any) -> None:
            out["F"] = -toy(x)

    algorithm = NSGA2(pop_size=nsga2.POPULATION)
    algorithm.setup(Toy(n_var=3, n_obj=2, xl=0.0, xu=1.0), seed=3, termination=("n_gen", 3))
    algorithm.next()
    parents = algorithm.pop
    algorithm.next()
    X = Population.merge(parents, algorithm.off).get("X")
    known = Study(X, toy(X), 0 * toy(X), asked=X, pending=X[:0], reference=CORNER, names="ab")
    ours = nsga2.survivors(nsga2.started(NSGA2(pop_size=nsga2.POPULATION, seed=0), known), known)
    assert {tuple(x) for x in ours.get("X")} == {tuple(x) for x in algorithm.pop.get("X")}
    assert len(ours) == nsga2.POPULATION < len(X)


def test_each_direction_keeps_its_best_observation() -> None:
    known = study(n=32)
    directions = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    best = moead.best(moead.started(MOEAD(directions, n_neighbors=2), known), known).get("X")
    gap = known.Y.max(axis=0) - known.Y
    for direction, point in zip(directions, best, strict=True):
        assert (point == known.X[(gap * direction).max(axis=1).argmin()]).all()


def test_directions_take_turns() -> None:
    cycle = moead.turns(22, 11, 11, seed=5)
    assert sorted(cycle) == list(range(11))
    assert [turn for t in range(22, 33) for turn in moead.turns(t, 1, 11, seed=5)] == cycle
    assert moead.turns(33, 11, 11, seed=5) != cycle


def test_fitness_is_what_a_point_adds_or_the_step_that_it_lacks() -> None:
    before = np.array([[0.5, 0.5]])
    own = np.array([[0.6, 0.6], [0.4, 0.3], [0.9, 0.1], [-0.3, 0.9]])
    found = cma_es.fitnesses(own, before, CORNER)
    others = np.concatenate([before, own[1:]])
    assert found[0] == pytest.approx(added_hypervolume(own[0], others, CORNER))
    assert found[1] == pytest.approx(-0.2)  # beyond the first objective of (0.6, 0.6)
    assert found[2] == pytest.approx(0.3 * 0.2)
    assert found[3] == pytest.approx(-0.2)  # beyond the reference
    for y, fitness in zip(own[[1, 3]], found[[1, 3]], strict=True):
        rest = np.concatenate([before, own[(own != y).any(axis=1)]])
        assert added_hypervolume(y - fitness - 1e-6, rest, CORNER) == 0
        assert added_hypervolume(y - fitness + 1e-6, rest, CORNER) > 0


def test_the_mean_of_cma_es_moves_to_the_optimum_of_a_sphere() -> None:
    """Two equal objectives are one; the replayed distribution closes in on where both are largest."""
    optimum = np.array([0.8, 0.2, 0.7])

    def sphere(X: np.ndarray) -> np.ndarray:
        return np.repeat(1 - ((X - optimum) ** 2).sum(axis=1, keepdims=True), 2, axis=1)

    known, distances = study(n=7, f=sphere), []
    for step in range(12):
        strategy = cma_es.replayed(known, seed=step)
        distances.append(np.linalg.norm(strategy.result.xfavorite - optimum))
        X = np.concatenate([known.X, asked("cma-es", known, strategy.popsize, seed=step)])
        known = Study(X, sphere(X), 0 * sphere(X), asked=X, pending=X[:0], reference=CORNER, names="ab")
    assert distances[0] > 0.2
    assert distances[-1] < 0.05
    assert cma_es.replayed(known, 0).sigma < cma_es.STEP


def test_an_incomplete_generation_waits() -> None:
    size = cma_es.replayed(study(), 0).popsize
    means = [
        cma_es.replayed(study(n=n), 0).result.xfavorite for n in (size - 1, size, 2 * size - 1, 2 * size)
    ]
    assert (means[0] == 0.5).all()
    assert (means[1] == means[2]).all()
    assert (means[2] != means[3]).any()


def test_optunas_study_holds_what_was_told_and_what_is_under_way() -> None:
    pending = sobol(3, 2, seed=9)
    known = study(pending=pending)
    trials = motpe.rebuilt(known, seed=0).trials
    told = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert (np.array([list(trial.params.values()) for trial in told]) == known.X).all()
    assert (np.array([trial.values for trial in told]) == known.Y).all()
    running = [trial for trial in trials if trial.state == optuna.trial.TrialState.RUNNING]
    assert (np.array([list(trial.params.values()) for trial in running]) == pending).all()
    assert motpe.rebuilt(known, seed=0).directions == [optuna.study.StudyDirection.MAXIMIZE] * 2
    assert (asked("motpe", known, 1) != asked("motpe", study(), 1)).any()


def test_a_quadratic_is_found_again() -> None:
    """With more observations than coefficients the fit has all cross terms, and is exact without noise."""
    random = np.random.default_rng(0)
    A, b = random.normal(size=(2, 4, 4)), random.normal(size=(2, 4))

    def quadratic(X: np.ndarray) -> np.ndarray:
        return np.einsum("ni,kij,nj->nk", X, A, X) + X @ b.T

    X, fresh = random.random((40, 4)), random.random((9, 4))
    np.testing.assert_allclose(map.fitted(X, quadratic(X))(fresh), quadratic(fresh), atol=1e-3)
    # With fewer there are squares alone, and it is the best such function rather than a wild one.
    error = np.abs(map.fitted(X[:12], quadratic(X[:12]))(fresh) - quadratic(fresh)).max()
    assert 0.01 < error < 2 * np.ptp(quadratic(X), axis=0).max()


def test_ridge_strength_has_the_smallest_leave_one_out_error() -> None:
    """The closed form of the errors is that of fits without each observation in turn, at fixed scales."""
    random = np.random.default_rng(1)
    terms, y = random.normal(size=(12, 5)), random.normal(size=12)

    def fit(rows: np.ndarray, ridge: float) -> tuple[np.ndarray, float, np.ndarray]:
        centre, mean = terms[rows].mean(axis=0), y[rows].mean()
        Z = terms[rows] - centre
        return np.linalg.solve(Z.T @ Z + ridge * np.eye(5), Z.T @ (y[rows] - mean)), mean, centre

    errors = []
    for ridge in map.RIDGES * 12:
        left_out = []
        for row in range(12):
            beta, mean, centre = fit(np.delete(np.arange(12), row), ridge)
            left_out.append(y[row] - mean - (terms[row] - centre) @ beta)
        errors.append(np.square(left_out).sum())
    U, s, V = np.linalg.svd(terms - terms.mean(axis=0), full_matrices=False)
    centred = y - y.mean()
    np.testing.assert_allclose(map.errors(U, s, centred), errors)
    best = map.RIDGES[int(np.argmin(errors))] * 12
    ours = V.T @ map._ridge(U, s, centred)
    np.testing.assert_allclose(ours, fit(np.arange(12), best)[0], rtol=1e-6)


def test_points_of_map_are_on_the_front_of_its_fit_and_spread() -> None:
    known = study(n=40)
    function = map.fitted(known.X, known.Y)
    batch = asked("map", known, 4)
    random = function(sobol(3, 512, seed=4))
    for y in function(batch):
        assert not ((random >= y).all(axis=1) & (random > y + 0.02).any(axis=1)).any()
    values = np.array([[0.0, 1.0], [0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    assert map.spread(values, np.array([[0.0, 1.0]]), 2) == [3, 1]
    assert map.spread(values, values[[0, 3]], 9) == [1, 2, 0, 3]
    assert map.spread(values[:0], values, 2) == []


def test_mutants_and_crossover() -> None:
    random = np.random.default_rng(0)
    elites = sobol(3, 3, seed=0)
    found = mm_mo.mutants(elites, np.full(200, 0.5), random)
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    expected = {tuple(np.clip(elites[a] + 0.5 * (elites[b] - elites[c]), 0, 1)) for a, b, c in orders}
    assert {tuple(point) for point in found} == expected
    assert mm_mo.mutants(elites[:1], np.full(2, 0.5), random).tolist() == [elites[0].tolist()] * 2
    mixed = mm_mo.crossed(np.zeros((400, 3)), np.ones((400, 3)), random)
    assert set(mixed.flat) == {0.0, 1.0}
    assert (mixed.sum(axis=1) >= 1).all()
    assert 0.45 < mixed.mean() < 0.65


def test_the_most_uncertain_are_taken() -> None:
    known = study(n=16)
    model = surrogate.fit(known.X, known.Y, known.variance, chosen("mm-mo"))
    points = np.concatenate([known.X[:6], sobol(3, 6, seed=8)])
    _, sd = surrogate.posterior(model, points)
    information = (1 / sd**2).sum(axis=1)
    rows = mm_mo.most_uncertain(model, points, 3)
    assert len(rows) == 3
    assert information[rows].max() <= np.delete(information, rows).min()


def test_elites_of_momm_add_most_to_the_front() -> None:
    X = sobol(2, 64, seed=0)
    angle = np.linspace(0.05, 0.95, 64) * np.pi / 2
    Y = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    Y[::4] *= 0.5  # dominated
    known = Study(X, Y, 0 * Y, asked=X, pending=X[:0], reference=CORNER, names="ab")
    found = momm.elites(known)
    assert len(found) == momm.ELITES
    front = [row for row in range(64) if row % 4]
    adds = {row: added_hypervolume(Y[row], np.delete(Y, row, axis=0), CORNER) for row in front}
    best = sorted(front, key=lambda row: -adds[row])[: momm.ELITES]
    assert sorted(rows_of(X, found)) == sorted(best)


def rows_of(X: np.ndarray, points: np.ndarray) -> list[int]:
    return [int(np.flatnonzero((point == X).all(axis=1))[0]) for point in points]


def test_the_batch_of_momm_is_of_the_best_of_its_pool() -> None:
    """What is proposed is worth more, by acquisition value, than most random points."""
    known = study(n=16)
    _, info = ask(known, 2, chosen("momm"), 1)
    assert len(info["acquisition_value"]) == 2
    model = surrogate.fit(known.X, known.Y, known.variance, chosen("momm"))
    with surrogate.seeded(1), torch.no_grad():
        function = acquisition.build(model, known.X, known.Y, chosen("momm"), 1, CORNER)
        values = function(surrogate.tensor(sobol(3, 64, seed=5))[:, None, :]).numpy()
    assert min(info["acquisition_value"]) > np.quantile(values, 0.9)


@pytest.mark.parametrize("optimiser", ["sobol", "mm-mo", "momm"])
def test_proposals_keep_to_the_bounds(optimiser: str) -> None:
    bounds = np.array([[0.2, 0.0, 0.5], [0.4, 1.0, 0.5]])
    batch = asked(optimiser, study(bounds=bounds), 2)
    assert ((batch >= bounds[0]) & (batch <= bounds[1])).all()


def test_sobol_weights_of_three_sources_are_uniform_on_the_simplex() -> None:
    known = study(2, 4, spread=lambda U: np.column_stack([1 - (1 - U[:, 0]) ** 0.5, U[:, 1]]))
    x, y = asked("sobol", known, 512).T
    np.testing.assert_allclose([x.mean(), (y * (1 - x)).mean()], 1 / 3, atol=0.01)
