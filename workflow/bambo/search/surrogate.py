"""Gaussian process surrogates: one for each objective (appendix B), float64, outputs standardised.

Kernel, priors and noise follow the settings:
- `matern52` is Eq. 15: Matern-5/2 with a lengthscale for each variable, times an output scale. `rbf` has
  lengthscales alone; its variance is that of the observations, which are standardised.
- `lengthscale_prior: none` is plain marginal likelihood (Eq. 17), without any prior. `dimension-scaled` is
  BoTorch's log-normal prior [Hvarfner2024]; an inferred noise then has a Gamma(1.1, 0.05) prior.
- `noise: known` takes the variances that are given; `inferred` fits one (Eq. 16).
Lower bounds keep covariances invertible: lengthscales 0.025, noise 1e-4 of the observed variance (BoTorch's).

References:
    [Hvarfner2024] C. Hvarfner, E. O. Hellsten, L. Nardi. Vanilla Bayesian Optimization Performs Great in High
        Dimensions. ICML 2024.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import log
from typing import Any

import numpy as np
import torch
from botorch.exceptions.warnings import BadInitialCandidatesWarning, InputDataWarning, NumericsWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.models.utils.gpytorch_modules import (
    MIN_INFERRED_NOISE_LEVEL,
    get_covar_module_with_dim_scaled_prior,
    get_gaussian_likelihood_with_gamma_prior,
)
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import SumMarginalLogLikelihood
from linear_operator.utils.warnings import NumericalWarning
from numpy.typing import NDArray

from ..errors import BadInput
from ..pareto import non_dominated, thinned

MIN_LENGTHSCALE = 2.5e-2
START = log(2)  # GPyTorch's start for every positive parameter
SILENCED = (NumericalWarning, InputDataWarning, BadInitialCandidatesWarning, NumericsWarning)


def fit(
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    variance: NDArray[np.float64],
    settings: Mapping[str, Any],
) -> ModelListGP:
    """Fit one Gaussian process an objective by L-BFGS-B on the marginal likelihood.

    X: points [n x D] in [0, 1]; Y: objectives [n x m]; variance: noise of Y [n x m], unused if inferred.
    BadInput for fewer than two observations; BoTorch's ModelFittingError where no attempt succeeds.
    """
    if len(X) < 2:
        raise BadInput(
            f"observations: {len(X)} finished evaluation(s), a surrogate needs 2; see why others failed"
        )
    columns = [(Y[:, [k]], variance[:, [k]]) for k in range(Y.shape[1])]
    with seeded(0):
        model = ModelListGP(*[_process(X, y, noise, settings) for y, noise in columns])
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    return model


def posterior(model: ModelListGP, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation [n x m] of the noise-free objectives at X [n x D]."""
    with seeded(0), torch.no_grad():
        result = model.posterior(tensor(X))
        return result.mean.numpy(), result.variance.clamp_min(0).sqrt().numpy()


def posterior_front(
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    variance: NDArray[np.float64],
    stderr: NDArray[np.float64],
    settings: Mapping[str, Any],
    reference: Sequence[float],
    members: int = 8,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Posterior mean and sd [n x m] at the observed points, and which of them make the front by mean.

    The observed front picks whoever was lucky; the posterior mean is nearly free of that. Of the
    non-dominated means, the one that adds least to the hypervolume is dropped until `members` are left.
    Models outside of the search's space (rows of X that are NaN) are no observations of the surrogate: their mean is
    their value, their sd its standard error [n x m]. So it is for all where there are not two to fit.
    """
    mean, sd = Y.copy(), stderr.copy()
    inside = ~np.isnan(X).any(axis=1)
    if inside.sum() > 1:
        model = fit(X[inside], Y[inside], variance[inside], settings)
        mean[inside], sd[inside] = posterior(model, X[inside])
    front = np.flatnonzero(non_dominated(mean))
    front = front[thinned(mean[front], reference, members)]
    return mean, sd, np.isin(np.arange(len(X)), front)


def describe(model: ModelListGP, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Fitted parameters for each objective: lengthscales [D], output scale and (mean) noise variance of Y."""
    return {name: _describe(process) for name, process in zip(names, model.models, strict=True)}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch within the block alone, and keep quiet about what users cannot act on.

    Silenced: jitter added to a covariance, observations that are all equal, line searches that start again,
    and that qEHVI is often 0 where its logarithm still has a slope.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        for category in SILENCED:
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", "Optimization failed", RuntimeWarning)
        yield


def tensor(X: NDArray[np.float64]) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(X), dtype=torch.float64)


def _process(
    X: NDArray[np.float64], y: NDArray[np.float64], noise: NDArray[np.float64], settings: Mapping[str, Any]
) -> SingleTaskGP:
    known = settings["noise"] == "known"
    floor = MIN_INFERRED_NOISE_LEVEL * (y.var(ddof=1) or 1.0)
    return SingleTaskGP(
        tensor(X),
        tensor(y),
        train_Yvar=tensor(np.maximum(noise, floor)) if known else None,
        likelihood=None if known else _likelihood(settings),
        covar_module=_kernel(X.shape[1], settings),
        outcome_transform=Standardize(m=1),
    )


def _kernel(dimension: int, settings: Mapping[str, Any]) -> Kernel:
    matern = settings["kernel"] == "matern52"
    if settings["lengthscale_prior"] == "dimension-scaled":
        kernel = get_covar_module_with_dim_scaled_prior(dimension, use_rbf_kernel=not matern)
    else:
        bound = GreaterThan(MIN_LENGTHSCALE, transform=None, initial_value=START)
        family = MaternKernel if matern else RBFKernel  # the Matern kernel's smoothness is 5/2 unless told
        kernel = family(ard_num_dims=dimension, lengthscale_constraint=bound)
    return ScaleKernel(kernel) if matern else kernel


def _likelihood(settings: Mapping[str, Any]) -> GaussianLikelihood:
    if settings["lengthscale_prior"] == "dimension-scaled":
        return get_gaussian_likelihood_with_gamma_prior()
    bound = GreaterThan(MIN_INFERRED_NOISE_LEVEL, transform=None, initial_value=START)
    return GaussianLikelihood(noise_constraint=bound)


def _describe(process: Any) -> dict[str, Any]:
    unit = process.outcome_transform.stdvs.item() ** 2
    kernel = process.covar_module
    scaled = isinstance(kernel, ScaleKernel)
    return {
        "lengthscales": (kernel.base_kernel if scaled else kernel).lengthscale.flatten().tolist(),
        "outputscale": (kernel.outputscale.item() if scaled else 1.0) * unit,
        "noise": process.likelihood.noise.mean().item() * unit,
    }
