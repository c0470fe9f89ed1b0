"""Surrogates, acquisitions and proposals on toy problems; small budgets, so that it stays quick."""

import json
from typing import Any

import botorch.optim.core
import numpy as np
import pytest
import torch
from bambo.errors import BadInput
from bambo.pareto import hypervolume, non_dominated
from bambo.search import acquisition, bayesian, surrogate
from bambo.search.ask import ask
from bambo.search.design import sobol, warm_start
from bambo.search.presets import PRESETS
from bambo.search.study import Study, fresh
from botorch.acquisition.multi_objective.logei import (
    qLogExpectedHypervolumeImprovement,
    qLogNoisyExpectedHypervolumeImprovement,
)
from botorch.acquisition.multi_objective.monte_carlo import qExpectedHypervolumeImprovement
from fake_run import SOURCES, plain, toy
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood
from gpytorch.priors import GammaPrior, LogNormalPrior

SMALL = {"restarts": 2, "raw_samples": 32, "mc_samples": 16}
REFERENCE = [-0.1, -0.1]
NAMES = ["reasoning", "efficiency"]


pytestmark = pytest.mark.usefixtures("one_thread")


def settings(preset: str = "bambo-robust", **others: Any) -> dict[str, Any]:
    return {**PRESETS[preset], **SMALL, **others}


def observed(dimension: int = 3, n: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    X = warm_start(plain(dimension), SOURCES, n, seed=0)[0]
    Y = toy(X) + 0.02 * np.random.default_rng(0).standard_normal((n, 2))
    return X, Y, np.full_like(Y, 0.02**2)


def propose(X: np.ndarray, Y: np.ndarray, variance: np.ndarray, q: int, seed: int = 1, **others: Any) -> Any:
    chosen = others.pop("settings", settings())
    known = {"asked": X, "pending": X[:0], "reference": np.array(REFERENCE), "names": NAMES, **others}
    return ask(Study(X, Y, variance, **known), q, chosen, seed)


def process(preset: str, **others: Any) -> Any:
    return surrogate.fit(*observed(), settings(preset, **others)).models[0]


def test_the_robust_preset_is_what_it_claims() -> None:
    model = process("bambo-robust")
    assert type(model.covar_module) is RBFKernel
    assert model.covar_module.ard_num_dims == 3
    prior = model.covar_module.lengthscale_prior
    assert isinstance(prior, LogNormalPrior)
    assert prior.loc.item() == pytest.approx(np.sqrt(2) + np.log(3) / 2)
    assert isinstance(model.likelihood, FixedNoiseGaussianLikelihood)
    unit = model.outcome_transform.stdvs.item() ** 2
    np.testing.assert_allclose(model.likelihood.noise.numpy() * unit, 0.02**2)


def test_the_papers_preset_is_what_it_claims() -> None:
    model = process("bambo")
    assert type(model.covar_module) is ScaleKernel
    assert type(model.covar_module.base_kernel) is MaternKernel
    assert model.covar_module.base_kernel.nu == 2.5
    assert model.covar_module.base_kernel.ard_num_dims == 3
    assert type(model.likelihood) is GaussianLikelihood
    assert list(model.named_priors()) == []


def test_an_inferred_noise_beside_a_prior_has_a_weak_one() -> None:
    model = process("bambo-robust", noise="inferred")
    priors = {type(prior) for _, _, prior, _, _ in model.named_priors()}
    assert priors == {LogNormalPrior, GammaPrior}
    assert type(process("bambo", lengthscale_prior="dimension-scaled").covar_module) is ScaleKernel


@pytest.mark.parametrize(
    ("preset", "others", "family"),
    [
        ("bambo-robust", {}, qLogNoisyExpectedHypervolumeImprovement),
        ("bambo-robust", {"acquisition": "qlogehvi"}, qLogExpectedHypervolumeImprovement),
        ("bambo", {}, qExpectedHypervolumeImprovement),
    ],
)
def test_acquisition_and_reference_follow_the_settings(preset: str, others: dict, family: type) -> None:
    X, Y, variance = observed()
    chosen = settings(preset, **others)
    model = surrogate.fit(X, Y, variance, chosen)
    with surrogate.seeded(0):
        function = acquisition.build(model, X, Y, chosen, 0, np.array(REFERENCE))
    assert type(function) is family
    expected = Y.min(axis=0) if preset == "bambo" else REFERENCE
    np.testing.assert_allclose(function.ref_point.numpy(), expected)
    assert function.sampler.sample_shape == torch.Size([16])


@pytest.mark.parametrize(
    ("more", "family"),
    [(0, qLogNoisyExpectedHypervolumeImprovement), (1, qLogExpectedHypervolumeImprovement)],
)
def test_of_many_observations_the_front_is_taken_as_known(more: int, family: type) -> None:
    """By their number alone, so that a decision replays."""
    X = sobol(2, acquisition.KNOWN_FRONT + more, seed=0)
    model = surrogate.fit(X[:8], toy(X[:8]), np.full((8, 2), 1e-4), settings())
    with surrogate.seeded(0):
        function = acquisition.build(model, X, toy(X), settings(), 0, np.array(REFERENCE))
    assert type(function) is family


@pytest.mark.parametrize("preset", ["bambo-robust", "bambo"])
def test_the_posterior_follows_a_smooth_function(preset: str) -> None:
    X = sobol(3, 32, seed=0)
    model = surrogate.fit(X, toy(X), np.full((32, 2), 1e-6), settings(preset))
    fresh = sobol(3, 64, seed=1)
    mean, sd = surrogate.posterior(model, fresh)
    assert np.abs(mean - toy(fresh)).max() < 0.1
    assert (sd > 0).all()
    assert (sd < toy(X).std(axis=0)).all()


def test_fitted_parameters_are_reported_in_the_units_of_the_objectives() -> None:
    X, Y, variance = observed()
    small = surrogate.describe(surrogate.fit(X, Y, variance, settings()), NAMES)
    large = surrogate.describe(surrogate.fit(X, 10 * Y, 100 * variance, settings()), NAMES)
    assert list(small) == NAMES
    for name in NAMES:
        assert len(small[name]["lengthscales"]) == 3
        assert small[name]["noise"] == pytest.approx(0.02**2)
        np.testing.assert_allclose(large[name]["lengthscales"], small[name]["lengthscales"], rtol=1e-3)
        for key in ("noise", "outputscale"):
            assert large[name][key] == pytest.approx(100 * small[name][key], rel=1e-3)


@pytest.mark.parametrize("preset", ["bambo-robust", "bambo"])
@pytest.mark.filterwarnings("error")
def test_observations_without_any_difference_are_no_trouble(preset: str) -> None:
    X = warm_start(plain(2), SOURCES, 4, seed=0)[0]
    batch, info = propose(X, np.ones((4, 2)), np.zeros((4, 2)), 2, settings=settings(preset))
    assert np.isfinite(batch).all()
    assert np.isfinite(info["acquisition_value"]).all()


@pytest.mark.parametrize("preset", ["bambo-robust", "bambo"])
@pytest.mark.filterwarnings("error")
def test_a_line_search_that_gives_up_is_no_end_of_the_search(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As L-BFGS-B does here and there at an optimum, where the likelihood has no digits left to gain."""
    expected = surrogate.lengthscales(surrogate.fit(*observed(), settings(preset)))
    minimize = botorch.optim.core.minimize_with_timeout

    def gives_up(*arguments: Any, **options: Any) -> Any:
        found = minimize(*arguments, **options)
        found.update(success=False, message="ABNORMAL: ")
        return found

    monkeypatch.setattr(botorch.optim.core, "minimize_with_timeout", gives_up)
    found = surrogate.lengthscales(surrogate.fit(*observed(), settings(preset)))
    np.testing.assert_allclose(found, expected)


def test_one_observation_is_too_few() -> None:
    X, Y, variance = observed()
    with pytest.raises(BadInput, match=r"1 finished evaluation\(s\), a surrogate needs 2"):
        propose(X[:1], Y[:1], variance[:1], 1)


def test_equal_arguments_give_equal_points_and_leave_the_global_seed_alone() -> None:
    X, Y, variance = observed()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, info = propose(X, Y, variance, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    second, again = propose(X, Y, variance, 2)
    assert (first == second).all()
    assert info == again == json.loads(json.dumps(info))
    assert (propose(X, Y, variance, 2, seed=2)[0] != first).any()


def test_seeds_may_be_large() -> None:
    X, Y, variance = observed()
    assert propose(X, Y, variance, 1, seed=2**32 - 1)[0].shape == (1, 3)


def test_no_point_is_proposed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A maximiser that returns taken points, and twice the same, to 6 decimals: all but one are replaced."""
    X, Y, variance = observed(dimension=1)
    found = np.array([[1e-9], [0.3], [0.3 + 1e-8], [1.0]])
    monkeypatch.setattr(acquisition, "maximise", lambda *_: (found, np.zeros(4)))
    batch, info = propose(X, Y, variance, 4)
    assert info["replaced"] == 3
    assert batch[0] == 0.3
    together = np.concatenate([X, batch])
    assert len(np.unique(together, axis=0)) == len(together) == 14
    assert (batch == batch.round(6)).all()
    assert ((batch >= 0) & (batch <= 1)).all()


def test_replacements_have_the_best_acquisition_value_of_what_is_free() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x.squeeze(-2).sum(dim=-1)

    points = sobol(2, 32, seed=5)
    best = points[np.argsort(points.sum(axis=1))[::-1]]
    assert (bayesian._best(function, points[fresh(points, best[1:2])]) == best[:1]).all()
    assert (bayesian._best(function, points[fresh(points, best[:1])]) == best[1:2]).all()


def test_pending_points_move_the_proposal() -> None:
    X, Y, variance = observed()
    first, _ = propose(X, Y, variance, 1)
    second, _ = propose(X, Y, variance, 1, pending=first, asked=np.concatenate([X, first]))
    assert np.abs(first - second).max() > 0.01


def more(X: np.ndarray, m: int) -> np.ndarray:
    """Three or four objectives, in [0, 1], at odds with each other."""
    return np.column_stack([toy(X), 1 - np.abs(X - 0.5).mean(axis=1), 1 - X[:, 0] ** 2])[:, :m]


@pytest.mark.parametrize("m", [3, 4])
@pytest.mark.parametrize("name", ["qlognehvi", "qlogehvi", "qehvi", "thompson"])
def test_more_objectives_are_searched_by_every_acquisition(name: str, m: int) -> None:
    X = warm_start(plain(3), SOURCES, 8, seed=0)[0]
    Y, corner = more(X, m), np.full(m, -0.1)
    options = {"settings": settings(acquisition=name, mc_samples=8), "reference": corner, "names": "abcd"[:m]}
    batch, info = propose(X, Y, np.full_like(Y, 1e-6), 2, **options)
    again, _ = propose(X, Y, np.full_like(Y, 1e-6), 2, **options)
    np.testing.assert_array_equal(batch, again)
    assert batch.shape == (2, 3)
    assert list(info["surrogate"]) == list("abcd"[:m])
    # What it proposes adds to what was seen, as a random pair hardly ever does.
    gains = [
        hypervolume(np.vstack([Y, more(pair, m)]), corner) - hypervolume(Y, corner)
        for pair in [batch, *sobol(3, 64, seed=3).reshape(32, 2, 3)]
    ]
    assert gains[0] > np.median(gains[1:])


def test_the_posterior_front_of_three_objectives_is_thinned() -> None:
    X = sobol(3, 24, seed=0)
    Y = more(X, 3)
    mean, _, chosen = surrogate.posterior_front(
        X, Y, np.full_like(Y, 1e-6), np.zeros_like(Y), settings(), np.full(3, -0.1)
    )
    assert chosen.sum() == 8 < non_dominated(mean).sum()
    assert non_dominated(mean)[chosen].all()


@pytest.mark.parametrize("preset", ["bambo-robust", "bambo"])
def test_the_search_beats_sobol_at_equal_budget(preset: str) -> None:
    X = warm_start(plain(4), SOURCES, 8, seed=0)[0]
    for iteration in range(2):
        Y = toy(X)
        batch, _ = propose(X, Y, np.full_like(Y, 1e-4), 4, seed=iteration, settings=settings(preset))
        X = np.concatenate([X, batch])
    searched = hypervolume(toy(X), REFERENCE)
    spread = hypervolume(toy(warm_start(plain(4), SOURCES, len(X), seed=0)[0]), REFERENCE)
    assert searched > 1.1 * spread


def test_the_posterior_front_is_thinned_by_hypervolume() -> None:
    X = np.linspace(0, 1, 20)[:, None]
    Y = np.concatenate([X, 1 - X**2], axis=1)
    mean, sd, mask = surrogate.posterior_front(
        X, Y, np.full_like(Y, 1e-4), np.zeros_like(Y), settings(), REFERENCE, members=5
    )
    assert mean.shape == sd.shape == (20, 2)
    assert mask.sum() == 5
    assert non_dominated(mean)[mask].all()
    whole = hypervolume(mean, REFERENCE)
    random = np.random.default_rng(0)
    others = [hypervolume(mean[random.permutation(20)[:5]], REFERENCE) for _ in range(200)]
    assert max(others) <= hypervolume(mean[mask], REFERENCE) <= whole


def test_the_posterior_front_is_not_fooled_by_luck() -> None:
    """A lucky point is on the observed front, not on the one that is believed."""
    X = np.linspace(0, 1, 21)[:, None]
    Y = np.concatenate([np.sin(3 * X), np.cos(3 * X)], axis=1)
    Y[16] += 0.5
    _, _, mask = surrogate.posterior_front(
        X, Y, np.full_like(Y, 0.5**2), np.zeros_like(Y), settings(), [-2, -2]
    )
    assert non_dominated(Y)[16]
    assert not mask[16]


def test_draws_do_not_mind_how_many_points_are_under_way() -> None:
    """63 of them: each decision has a seed of its own, and so a draw of its own."""
    X, Y, variance = observed(4, 20)
    waiting = sobol(4, 63, seed=7)
    known = {"pending": waiting, "asked": np.concatenate([X, waiting])}
    chosen = settings(acquisition="thompson")
    points = [propose(X, Y, variance, 1, seed, settings=chosen, **known)[0] for seed in range(6)]
    assert len(np.unique(np.concatenate([waiting, *points]), axis=0)) == 63 + 6
    assert np.concatenate(points).std(axis=0).max() > 0.05


@pytest.mark.parametrize("others", [{}, {"mean_input": True}, {"noise": "inferred", "kernel": "matern52"}])
def test_what_is_believed_leaves_the_mean_and_takes_variance_away(others: dict) -> None:
    X, Y, variance = observed(3, 12)
    model = surrogate.fit(X, Y, variance, settings(**others))
    waiting, elsewhere = sobol(3, 4, seed=5), sobol(3, 32, seed=6)
    with surrogate.seeded(0):
        told = acquisition._believing(model, surrogate.tensor(waiting))
    for points in (waiting, elsewhere):
        (mean, sd), (same, less) = (surrogate.posterior(each, points) for each in (model, told))
        np.testing.assert_allclose(same, mean, atol=1e-8)
        assert (less <= sd + 1e-9).all()
    assert (surrogate.posterior(told, waiting)[1] < 0.9 * surrogate.posterior(model, waiting)[1]).all()


@pytest.mark.parametrize("name", ["qlogehvi", "qehvi"])
def test_a_known_front_copes_with_many_points_under_way(name: str) -> None:
    """Their subsets, of which BoTorch takes one term each, are a quadrillion."""
    X, Y, variance = observed(3, 12)
    waiting = sobol(3, 50, seed=5)
    known = {"pending": waiting, "asked": np.concatenate([X, waiting])}
    chosen = settings(acquisition=name)
    point, _ = propose(X, Y, variance, 1, settings=chosen, **known)
    assert not any(np.allclose(point, other, atol=1e-3) for other in waiting)
    model = surrogate.fit(X, Y, variance, chosen)
    with surrogate.seeded(0):
        function = acquisition.build(model, X, Y, chosen, 0, np.array(REFERENCE), waiting)
    sd, less = (surrogate.posterior(each, waiting)[1] for each in (model, function.model))
    assert (less < 0.9 * sd).all()
    alone, _ = propose(X, Y, variance, 1, settings=chosen)
    again, _ = propose(X, Y, variance, 1, settings=chosen, pending=alone, asked=np.concatenate([X, alone]))
    assert np.abs(again - alone).max() > 0.01


@pytest.mark.parametrize("name", ["qlogehvi", "qehvi"])
def test_a_large_batch_on_a_known_front_goes_on_from_beliefs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, the 24th point would take 16 million terms."""
    monkeypatch.setattr(acquisition, "JOINT", 2)
    X, Y, variance = observed(3, 12)
    chosen = settings(acquisition=name)
    points, _ = propose(X, Y, variance, 24, settings=chosen)
    assert len(np.unique(points, axis=0)) == 24
    model, corner = surrogate.fit(X, Y, variance, chosen), np.array(REFERENCE)
    batch, _ = acquisition.maximise(model, X, Y, 3, chosen, 1, corner)
    first, _ = acquisition.maximise(model, X, Y, 2, chosen, 1, corner)
    third, _ = acquisition.maximise(model, X, Y, 1, chosen, 1, corner, first)
    np.testing.assert_allclose(batch, np.concatenate([first, third]), atol=1e-3)


def test_a_batch_on_a_known_front_is_built_one_belief_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquisition, "KNOWN_FRONT", 10)
    X, Y, variance = observed(3, 12)
    model = surrogate.fit(X, Y, variance, settings())
    points, values = acquisition.maximise(model, X, Y, 3, settings(), 1, np.array(REFERENCE))
    assert points.shape == (3, 3)
    assert values.shape == (3,)
    third, value = acquisition.maximise(model, X, Y, 1, settings(), 1, np.array(REFERENCE), points[:2])
    np.testing.assert_allclose(third[0], points[2], atol=1e-3)
    assert value[0] == pytest.approx(values[2], abs=1e-3)
