"""Thompson sampling: draws are of the posterior, directions give the hypervolume, batches are large and repeatable."""

from typing import Any

import numpy as np
import pytest
import torch
from bambo.pareto import hypervolume
from bambo.search import acquisition, surrogate
from bambo.search.ask import ask
from bambo.search.design import sobol, warm_start
from bambo.search.presets import PRESETS
from bambo.search.study import Study
from botorch.sampling.pathwise import get_matheron_path_model
from fake_run import SOURCES, plain, toy

SETTINGS = {**PRESETS["bambo-robust"], "acquisition": "thompson", "restarts": 2, "raw_samples": 32}
REFERENCE = np.array([-0.1, -0.1])


pytestmark = pytest.mark.usefixtures("one_thread")


def propose(X: np.ndarray, q: int, seed: int = 1, **changes: Any) -> tuple[np.ndarray, dict[str, Any]]:
    variance = np.full((len(X), 2), 1e-4)
    study = Study(X, toy(X), variance, asked=X, pending=X[:0], reference=REFERENCE, names=["a", "b"])
    return ask(study, q, {**SETTINGS, **changes}, seed)


def fitted() -> Any:
    X = warm_start(plain(3), SOURCES, 10, seed=0)[0]
    return surrogate.fit(X, toy(X), np.full((10, 2), 1e-4), SETTINGS)


def test_draws_have_the_posteriors_mean_and_deviation() -> None:
    model, fresh = fitted(), warm_start(plain(3), SOURCES, 16, seed=7)[0][3:]
    mean, sd = surrogate.posterior(model, fresh)
    with surrogate.seeded(0), torch.no_grad():
        values = get_matheron_path_model(model, torch.Size([1000]))(surrogate.tensor(fresh)).numpy()
    np.testing.assert_allclose(values.mean(axis=0), mean, atol=0.15 * sd.max())
    np.testing.assert_allclose(values.std(axis=0), sd, rtol=0.15)


def test_random_directions_measure_the_hypervolume(monkeypatch: pytest.MonkeyPatch) -> None:
    """E max_y min_i ((y_i - r_i) / l_i)^m is the hypervolume, but for the ball's volume over 2^m [Zhang2020]."""
    Y = np.array([[1.0, 0.2], [0.6, 0.8], [0.1, 0.9]])
    monkeypatch.setattr(acquisition, "get_matheron_path_model", lambda *_: lambda points: points)
    with surrogate.seeded(0):
        best = acquisition._draws(None, 100_000, REFERENCE)(surrogate.tensor(Y)).amax(dim=1)
    assert np.pi / 4 * (best**2).mean() == pytest.approx(hypervolume(Y, REFERENCE), rel=0.01)


def test_each_point_is_the_optimum_of_its_draw() -> None:
    X = warm_start(plain(3), SOURCES, 10, seed=0)[0]
    model = fitted()
    points, values = acquisition.maximise(model, X, toy(X), 5, SETTINGS, 1, REFERENCE)
    with surrogate.seeded(1), torch.no_grad():
        draws = acquisition._draws(model, 5, REFERENCE)
        np.testing.assert_allclose(draws(surrogate.tensor(points)).diagonal(), values)
        everywhere = draws(surrogate.tensor(np.concatenate([points, sobol(3, 4096, seed=3)])))
    assert (everywhere.amax(dim=1).numpy() < values + 0.02).all()
    assert ((points >= 0) & (points <= 1)).all()


def test_a_large_batch_is_new_spread_and_the_same_again() -> None:
    X = warm_start(plain(3), SOURCES, 10, seed=0)[0]
    batch, info = propose(X, 40)
    again, same = propose(X, 40)
    assert (batch == again).all()
    assert info == same
    assert len(np.unique(np.concatenate([X, batch]), axis=0)) == 50
    assert (propose(X, 40, seed=2)[0] != batch).any()
    assert hypervolume(toy(np.concatenate([X, batch])), REFERENCE) > 1.05 * hypervolume(toy(X), REFERENCE)
    assert np.ptp(toy(batch), axis=0).min() > 0.5


def test_what_was_taken_is_replaced_by_further_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    X = warm_start(plain(3), SOURCES, 10, seed=0)[0]
    monkeypatch.setattr(acquisition, "maximise", lambda *_: (np.repeat(X[:1], 6, axis=0), np.zeros(6)))
    batch, info = propose(X, 6)
    assert info["replaced"] == 6
    assert len(np.unique(np.concatenate([X, batch]), axis=0)) == 16
    assert np.ptp(toy(batch), axis=0).min() > 0.1


def test_the_reference_may_be_the_worst_observed() -> None:
    X = warm_start(plain(3), SOURCES, 10, seed=0)[0]
    assert (propose(X, 4)[0] != propose(X, 4, reference="worst")[0]).any()
    assert propose(X, 4, kernel="matern52", lengthscale_prior="none", noise="inferred")[0].shape == (4, 3)
