"""What is said of the surrogates: leave-one-out predictions and relevances."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from bambo.report import style, surrogates, tables
from bambo.search.presets import PRESETS
from bambo.search.surrogate import fit, leave_one_out, posterior
from fake_run import SETTINGS, VARIABLES, fake_run, toy


@cache
def found() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    with TemporaryDirectory() as folder:
        run = tables.read_run(fake_run(Path(folder)), VARIABLES)
    observations = tables.observations(run)
    return observations, *surrogates.surrogates(run, observations, SETTINGS)


@pytest.mark.parametrize("noise", ["known", "inferred"])
def test_leaving_one_out_is_what_a_surrogate_without_it_predicts(noise: str) -> None:
    """With the others' posterior at the same hyperparameters, which conditioning on all of them gives."""
    X = np.random.default_rng(0).random((12, 3))
    Y, variance = toy(X), np.full((12, 2), 1e-3)
    model = fit(X, Y, variance, {**PRESETS["bambo-robust"], "noise": noise})
    mean, sd = leave_one_out(model)
    for process, k in zip(model.models, range(2), strict=True):
        K = process.covar_module(process.train_inputs[0]).to_dense().detach().numpy()
        y = process.train_targets.numpy()
        m = process.mean_module(process.train_inputs[0]).detach().numpy()
        scale, shift = process.outcome_transform.stdvs.item(), process.outcome_transform.means.item()
        own = process.likelihood.noise.detach().numpy() * np.ones(12)
        for i in range(12):
            others = np.delete(np.arange(12), i)
            inverse = np.linalg.inv(K[np.ix_(others, others)] + np.diag(own[others]))
            expected = m[i] + K[i, others] @ inverse @ (y - m)[others]
            spread = K[i, i] + own[i] - K[i, others] @ inverse @ K[others, i]
            assert mean[i, k] == pytest.approx(shift + scale * expected, rel=1e-5, abs=1e-6)
            assert sd[i, k] == pytest.approx(scale * np.sqrt(spread), rel=1e-4)
    assert not np.allclose(mean, posterior(model, X)[0])


def test_every_scored_model_of_every_search_is_checked() -> None:
    observations, checks, relevances = found()
    for search, own in checks.groupby("search"):
        rows = observations[(observations["search"] == search) & (observations["status"] == "ok")]
        for name, part in own.groupby("objective"):
            assert list(part["candidate"]) == list(rows["candidate"])
            np.testing.assert_allclose(part["observed"], rows[name])
    assert (checks["sd"] > 0).all()
    sums = relevances.groupby(["search", "objective"])["relevance"].sum()
    np.testing.assert_allclose(sums, 1)
    assert list(relevances["variable"].unique()) == [
        *(variable["name"] for variable in VARIABLES["blocks"]),
        "model",
    ]


def test_the_figure_counts_what_lies_within_its_intervals(tmp_path: Path) -> None:
    _, checks, relevances = found()
    figure = surrogates.figure(checks, relevances, simulated=True)
    part = checks[(checks["search"] == "blocks") & (checks["objective"] == "reasoning")]
    inside = ((part["observed"] - part["predicted"]).abs() <= 1.96 * part["sd"]).sum()
    assert figure.axes[0].get_title(loc="left") == f"blocks: reasoning\n{inside} of {len(part)} within 95 %"
    assert "SIMULATED" in figure.get_suptitle()
    style.save(figure, tmp_path / "figure.svg")
    none = surrogates.figure(checks.head(0), relevances.head(0))
    style.save(none, tmp_path / "none.svg")
    assert "No search" in none.get_suptitle()
