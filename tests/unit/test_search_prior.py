"""Priors of the surrogate's lengthscales, and the mean of the weights as one more input."""

from typing import Any

import numpy as np
import pytest
import torch
from bambo.search import acquisition, surrogate
from bambo.search.ask import ask
from bambo.search.design import sobol
from bambo.search.presets import PRESETS
from bambo.search.study import Study
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.priors import LogNormalPrior
from hypothesis import given
from hypothesis import strategies as st

SMALL = {"restarts": 2, "raw_samples": 32, "mc_samples": 16}
IMPORTANCE = np.array([1.0, 0.05, 0.4, 0.2])


pytestmark = pytest.mark.usefixtures("one_thread")


def settings(**others: Any) -> dict[str, Any]:
    return {**PRESETS["bambo-robust"], **SMALL, **others}


def observed(n: int, dimension: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Only the first variable matters."""
    X = sobol(dimension, n, seed)
    Y = np.stack([np.sin(4 * X[:, 0]), np.cos(3 * X[:, 0])], axis=1)
    return X, Y, np.full_like(Y, 1e-4)


def kernel(n: int = 6, importance: np.ndarray | None = IMPORTANCE, **others: Any) -> Any:
    found = surrogate.fit(*observed(n), settings(**others), importance).models[0].covar_module
    return found.base_kernel if isinstance(found, ScaleKernel) else found


def lengthscales(n: int, importance: np.ndarray | None, **others: Any) -> np.ndarray:
    return kernel(n, importance, **others).lengthscale.detach().numpy()[0]


@pytest.mark.parametrize(("name", "family"), [("rbf", RBFKernel), ("matern52", MaternKernel)])
def test_the_prior_is_centred_on_the_importance(name: str, family: type) -> None:
    found = kernel(lengthscale_prior="importance", kernel=name)
    assert type(found) is family
    prior = found.lengthscale_prior
    assert isinstance(prior, LogNormalPrior)
    centre = np.sqrt(2) + np.log(4) / 2
    centres = prior.loc.numpy()[0]
    np.testing.assert_allclose(np.diff(centres), -surrogate.STRENGTH * np.diff(np.log(IMPORTANCE)))
    np.testing.assert_allclose(prior.scale.numpy(), surrogate.SCALE)
    # The importance moves lengthscales against each other: how a kernel sees distances is left as it is.
    assert np.exp(-2 * centres).sum() == pytest.approx(4 * np.exp(-2 * centre))


def test_few_variables_of_importance_are_like_a_space_of_few() -> None:
    importance = np.array([1.0, 1.0, *[1e-9] * 10])
    centres = surrogate._prior(importance, mean=False).loc.numpy()[0]
    np.testing.assert_allclose(centres[:2], np.sqrt(2) + np.log(2) / 2)


def test_the_prior_decides_what_data_leave_open() -> None:
    """Of two variables that look alike to the data, the more important one gets the shorter lengthscale."""
    X = np.linspace(0, 1, 8)[:, None].repeat(4, axis=1)
    Y = np.stack([np.sin(4 * X[:, 0]), -X[:, 0]], axis=1)
    chosen = settings(lengthscale_prior="importance")
    model = surrogate.fit(X, Y, np.full_like(Y, 1e-4), chosen, IMPORTANCE)
    found = surrogate.describe(model, ["a", "b"])["a"]["lengthscales"]
    assert (np.argsort(found) == np.argsort(-IMPORTANCE)).all()


def test_data_overrule_a_wrong_prior() -> None:
    wrong = np.array([0.05, 1.0, 1.0, 1.0])
    few = lengthscales(3, wrong, lengthscale_prior="importance")
    many = lengthscales(40, wrong, lengthscale_prior="importance")
    assert few.argmin() != 0
    assert many.argmin() == 0
    assert (many[1:] > 5 * many[0]).all()


@pytest.mark.parametrize("name", ["rbf", "matern52"])
def test_a_right_prior_predicts_better_from_few_data(name: str) -> None:
    """12 variables of which the first two matter, 8 observations, over some draws."""
    importance = np.array([1.0, 1.0, *[0.05] * 10])
    errors: dict[str, list[float]] = {"importance": [], "dimension-scaled": [], "none": []}
    for seed in range(4):
        X, fresh = sobol(12, 8, seed), sobol(12, 128, 100 + seed)
        y, truth = (np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1]) for x in (X, fresh))
        for prior, found in errors.items():
            chosen = settings(lengthscale_prior=prior, kernel=name)
            Y = np.stack([y, -y], axis=1)
            model = surrogate.fit(X, Y, np.full_like(Y, 1e-4), chosen, importance)
            found.append(float(((surrogate.posterior(model, fresh)[0][:, 0] - truth) ** 2).mean()))
    for other in ("dimension-scaled", "none"):
        assert np.mean(errors["importance"]) < 0.5 * np.mean(errors[other]), errors


def test_published_starts_go_by_rank_alone() -> None:
    importance = np.linspace(1, 0.05, 21)  # ranks 0, .05, ..., 1
    expected = [0.5] * 4 + [1.0] * 5 + [2.0] * 6 + [5.0] * 6
    np.testing.assert_array_equal(surrogate.starts(importance), expected)
    np.testing.assert_array_equal(surrogate.starts(importance**3), expected)
    np.testing.assert_array_equal(surrogate.starts(importance[::-1]), expected[::-1])
    np.testing.assert_array_equal(surrogate.starts(np.array([0.3])), [0.5])


@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=40))
def test_no_more_important_variable_starts_longer(values: list[float]) -> None:
    importance = np.array(values)
    found = surrogate.starts(importance)
    assert (np.diff(found[np.argsort(-importance, kind="stable")]) >= 0).all()
    assert found.min() == 0.5
    assert found.max() == 5


def test_published_starts_are_no_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrogate, "fit_gpytorch_mll", lambda likelihood: likelihood)
    model = surrogate.fit(
        *observed(6), settings(lengthscale_prior="importance-start", kernel="matern52"), IMPORTANCE
    )
    found = model.models[0].covar_module.base_kernel
    np.testing.assert_allclose(found.lengthscale.detach().numpy()[0], surrogate.starts(IMPORTANCE), rtol=1e-6)
    assert list(model.named_priors()) == []


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_lengthscales_without_a_prior_are_bounded(kernel: str) -> None:
    """Of a straight line, likelihood grows with the lengthscales: where squares overflow, no fit would succeed."""
    X = sobol(2, 5, seed=5)
    Y = np.column_stack([X[:, 0], np.random.default_rng(5).standard_normal(5)])
    plain = settings(lengthscale_prior="none", kernel=kernel, noise="inferred")
    found = surrogate.lengthscales(surrogate.fit(X, Y, np.zeros_like(Y), plain))
    assert found.max() <= surrogate.MAX_LENGTHSCALE + surrogate.MIN_LENGTHSCALE
    assert found.min() >= surrogate.MIN_LENGTHSCALE


@pytest.mark.parametrize("noise", ["known", "inferred"])
@pytest.mark.parametrize(
    ("prior", "fallback"), [("importance", "dimension-scaled"), ("importance-start", "none")]
)
def test_without_importance_there_is_nothing_to_tell_variables_apart(
    prior: str, fallback: str, noise: str
) -> None:
    found, expected = (
        surrogate.describe(surrogate.fit(*observed(6), settings(lengthscale_prior=kind, noise=noise)), "ab")
        for kind in (prior, fallback)
    )
    assert found == expected
    equal = surrogate.fit(*observed(6), settings(lengthscale_prior=prior, noise=noise), np.full(4, 0.3))
    if prior == "importance":
        assert surrogate.describe(equal, "ab") == expected


def test_noise_that_is_inferred_beside_the_prior_has_one_too() -> None:
    model = surrogate.fit(
        *observed(6), settings(lengthscale_prior="importance", noise="inferred"), IMPORTANCE
    )
    assert isinstance(model.likelihood.likelihoods[0], GaussianLikelihood)
    assert len(list(model.models[0].named_priors())) == 2


# ------------------------------------------------------------------------------------------------ mean of the weights


def along_the_mean(X: np.ndarray) -> np.ndarray:
    mean = X.mean(axis=1)
    return np.stack([np.tanh(6 * (mean - 0.5)), -(mean**2)], axis=1)


@pytest.mark.parametrize("prior", ["dimension-scaled", "none", "importance", "importance-start"])
def test_the_mean_is_one_more_input_of_the_surrogate_alone(prior: str) -> None:
    X, Y, variance = observed(8)
    model = surrogate.fit(X, Y, variance, settings(mean_input=True, lengthscale_prior=prior), IMPORTANCE)
    assert model.models[0].covar_module.ard_num_dims == 5
    mean, sd = surrogate.posterior(model, X)
    assert mean.shape == sd.shape == (8, 2)
    found = surrogate.describe(model, ["a", "b"])["a"]
    assert len(found["lengthscales"]) == 4
    assert found["mean_lengthscale"] > 0


def test_the_priors_of_the_variables_stay_beside_the_mean() -> None:
    plain = kernel(lengthscale_prior="importance").lengthscale_prior.loc[0]
    more = kernel(lengthscale_prior="importance", mean_input=True).lengthscale_prior.loc[0]
    np.testing.assert_allclose(more[:4], plain)
    assert more[4].item() == pytest.approx(np.sqrt(2))  # of a single input


def test_the_mean_is_of_the_weights_alone() -> None:
    """A parameter of the method is no weight: its changes leave the last input as it is."""
    columns = np.array([True, True, False, True])
    transform = surrogate._WithMean(columns)
    X = surrogate.tensor(sobol(4, 8, 0))
    found = transform(X)
    assert torch.equal(found[:, :4], X)
    np.testing.assert_allclose(found[:, 4], X.numpy()[:, columns].mean(axis=1))
    assert transform(X[:, None, :]).shape == (8, 1, 5)
    moved = X.clone()
    moved[:, 2] = 1
    assert torch.equal(transform(moved)[:, 4], found[:, 4])
    chosen = settings(mean_input=True)
    every, some = (surrogate.fit(*observed(8), chosen, weights=own) for own in (None, columns))
    assert surrogate.describe(every, "ab") != surrogate.describe(some, "ab")


def test_what_depends_on_the_mean_is_learnt_from_few_data() -> None:
    X = sobol(20, 12, 0)
    X[:3] = np.array([0.0, 1.0, 0.5])[:, None]
    fresh = np.linspace(0, 1, 50)[:, None] + 0.2 * (sobol(20, 50, 1) - 0.5)
    fresh = np.clip(fresh, 0, 1)
    errors = []
    for mean_input in (False, True):
        Y = along_the_mean(X)
        model = surrogate.fit(X, Y, np.full_like(Y, 1e-4), settings(mean_input=mean_input))
        errors.append(((surrogate.posterior(model, fresh)[0] - along_the_mean(fresh)) ** 2).mean(axis=0))
    assert (errors[1] < 0.8 * errors[0]).all(), errors
    assert errors[1][0] < 0.3 * errors[0][0], errors


@pytest.mark.parametrize("name", ["qlognehvi", "qlogehvi", "qehvi", "thompson"])
def test_points_stay_points_of_the_space(name: str) -> None:
    X, Y, variance = observed(8)
    study = Study(
        X, Y, variance, asked=X, pending=X[:0], reference=np.array([-2.0, -2.0]), names=["a", "b"],
        importance=IMPORTANCE,
    )  # fmt: skip
    chosen = settings(mean_input=True, lengthscale_prior="importance", acquisition=name, mc_samples=8)
    points, info = ask(study, 2, chosen, seed=1)
    assert points.shape == (2, 4)
    assert ((points >= 0) & (points <= 1)).all()
    assert len(info["surrogate"]["a"]["lengthscales"]) == 4
    model = surrogate.fit(X, Y, variance, chosen, IMPORTANCE)
    assert surrogate.describe(model, ["a", "b"]) == info["surrogate"]
    with surrogate.seeded(0):
        function = acquisition.build(model, X, Y, chosen, 0, study.reference)
        assert function(surrogate.tensor(X[:3, None, :])).shape == (3,)


def test_the_posterior_front_is_fitted_as_the_search_was() -> None:
    X, Y, variance = observed(12)
    chosen = settings(lengthscale_prior="importance", mean_input=True)
    weights = np.array([True, True, True, False])
    mean, sd, _ = surrogate.posterior_front(
        X, Y, variance, variance**0.5, chosen, [-2, -2], importance=IMPORTANCE, weights=weights
    )
    expected = surrogate.posterior(surrogate.fit(X, Y, variance, chosen, IMPORTANCE, weights), X)
    np.testing.assert_array_equal(mean, expected[0])
    np.testing.assert_array_equal(sd, expected[1])
