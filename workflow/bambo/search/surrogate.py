"""Gaussian process surrogates: one for each objective (appendix B), float64, outputs standardised.

Kernel, priors and noise follow the settings:
- `matern52` is Eq. 15: Matern-5/2 with a lengthscale for each variable, times an output scale. `rbf` has
  lengthscales alone; its variance is that of the observations, which are standardised.
- `lengthscale_prior: none` is plain marginal likelihood (Eq. 17), without any prior. `dimension-scaled` is
  BoTorch's log-normal prior [Hvarfner2024]; an inferred noise then has a Gamma(1.1, 0.05) prior. `importance` is the
  same with a centre for each variable: the median of l_d is e^sqrt(2) sqrt(D) (M / I_d)^STRENGTH, with the power mean
  M = (mean of I^(2 STRENGTH))^(1 / (2 STRENGTH)), so that the sum of 1 / l_d^2, by which a kernel sees distances, is
  that of the dimension-scaled prior: few variables of importance get the lengthscales of a space of few variables. The
  likelihood is weighed against it (MAP), so that data can overrule it. `importance-start` is AP-BMM as published: no
  prior, but a fit that starts from lengthscales by rank of I. Without an importance these two are `dimension-scaled`
  and `none`.
- `mean_input` adds an input: the mean of the weights, by which a change of all weights together, the one that a grid of
  single weights makes, is a short way. The prior of its lengthscale is the dimension-scaled one of a single input.
- `noise: known` takes the variances that are given; `inferred` fits one (Eq. 16).
Lower bounds keep covariances invertible: lengthscales 0.025, noise 1e-4 of the observed variance (BoTorch's); of
lengthscales fitted without BoTorch's own prior there is an upper one, too (MAX_LENGTHSCALE).

References:
    [Hvarfner2024] C. Hvarfner, E. O. Hellsten, L. Nardi. Vanilla Bayesian Optimization Performs Great in High
        Dimensions. ICML 2024.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import log, sqrt
from typing import Any

import numpy as np
import torch
from botorch.cross_validation import loo_cv
from botorch.exceptions.errors import ModelFittingError
from botorch.exceptions.warnings import (
    BadInitialCandidatesWarning,
    InputDataWarning,
    NumericsWarning,
    OptimizationWarning,
)
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.models.transforms.input import InputTransform
from botorch.models.utils.gpytorch_modules import (
    MIN_INFERRED_NOISE_LEVEL,
    get_covar_module_with_dim_scaled_prior,
    get_gaussian_likelihood_with_gamma_prior,
)
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from linear_operator.utils.warnings import NumericalWarning
from numpy.typing import NDArray

from ..errors import BadInput
from ..pareto import non_dominated, thinned

# The upper one is where a variable has long ceased to count; above some 1e150 their squares would overflow.
MIN_LENGTHSCALE, MAX_LENGTHSCALE = 2.5e-2, 1e6
START = log(2)  # GPyTorch's start for every positive parameter
# Of the importance's prior: the power of the importance by which lengthscales are expected to shrink, and the
# standard deviation of their logarithm (BoTorch's).
STRENGTH, SCALE = 1.0, sqrt(3)
# AP-BMM: the share of the variables, most important first, up to which a fit starts from which lengthscale.
STARTS = ((0.15, 0.5), (0.40, 1.0), (0.70, 2.0), (1.0, 5.0))
SILENCED = (
    NumericalWarning,
    InputDataWarning,
    BadInitialCandidatesWarning,
    NumericsWarning,
    OptimizationWarning,
)


def fit(
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    variance: NDArray[np.float64],
    settings: Mapping[str, Any],
    importance: NDArray[np.float64] | None = None,
    weights: NDArray[np.bool_] | None = None,
) -> ModelListGP:
    """Fit one Gaussian process an objective by L-BFGS-B on the marginal likelihood, times the prior where there is one.

    X: points [n x D] in [0, 1]; Y: objectives [n x m]; variance: noise of Y [n x m], unused if inferred;
    importance: of each variable [D], in (0, 1]; weights: which variables are weights [D], None for all.
    BadInput for fewer than two observations; BoTorch's ModelFittingError where a covariance cannot be inverted.
    """
    if len(X) < 2:
        raise BadInput(
            f"observations: {len(X)} finished evaluation(s), a surrogate needs 2; see why others failed"
        )
    mean = None
    if settings["mean_input"]:
        mean = np.full(X.shape[1], True) if weights is None else weights
    columns = [(Y[:, [k]], variance[:, [k]]) for k in range(Y.shape[1])]
    with seeded(0):
        return ModelListGP(*[_fitted(X, y, noise, settings, importance, mean) for y, noise in columns])


def posterior(model: ModelListGP, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation [n x m] of the noise-free objectives at X [n x D]."""
    with seeded(0), torch.no_grad():
        result = model.posterior(tensor(X))
        return result.mean.numpy(), result.variance.clamp_min(0).sqrt().numpy()


def leave_one_out(model: ModelListGP) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation [n x m] of each observation, noise included, as all others predict it.

    Lengthscales and the rest stay those that were fitted to all.
    """
    processes: Any = model.models
    with seeded(0), torch.no_grad():
        found = [loo_cv(process).posterior for process in processes]
        means, variances = (
            [getattr(each, key).flatten().numpy() for each in found] for key in ("mean", "variance")
        )
    return np.stack(means, axis=1), np.sqrt(np.stack(variances, axis=1))


def inputs(model: ModelListGP, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the kernels see of points X [n x D]: themselves, and the mean of their weights if that is an input."""
    process: Any = model.models[0]
    return process.input_transform(tensor(X)).numpy() if hasattr(process, "input_transform") else X


def lengthscales(model: ModelListGP) -> NDArray[np.float64]:
    """Of each objective and input [m x inputs]."""
    return np.array([_stationary_part(process).lengthscale.detach().numpy()[0] for process in model.models])


def posterior_front(
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    variance: NDArray[np.float64],
    stderr: NDArray[np.float64],
    settings: Mapping[str, Any],
    reference: Sequence[float],
    members: int = 8,
    importance: NDArray[np.float64] | None = None,
    weights: NDArray[np.bool_] | None = None,
    further: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Posterior mean and sd [n x m] at the observed points, and which of them make the front by mean.

    The observed front picks whoever was lucky; the posterior mean evens that out. Of the
    non-dominated means, the one that adds least to the hypervolume is dropped until `members` are left.
    Models outside of the search's space (rows of X that are NaN) are no observations of the surrogate: their mean is
    their value, their sd its standard error [n x m]. So it is for all where there are not two to fit.
    further: X, Y and variance of observations that are fitted, too, but are no members.
    """
    mean, sd = Y.copy(), stderr.copy()
    inside = ~np.isnan(X).any(axis=1)
    if inside.sum() > 1:
        known = X[inside], Y[inside], variance[inside]
        if further is not None:
            points, values, noise = (np.concatenate(pair) for pair in zip(known, further, strict=True))
            known = points, values, noise
        model = fit(*known, settings, importance, weights)
        mean[inside], sd[inside] = posterior(model, X[inside])
    front = np.flatnonzero(non_dominated(mean))
    front = front[thinned(mean[front], reference, members)]
    return mean, sd, np.isin(np.arange(len(X)), front)


def describe(model: ModelListGP, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Fitted parameters for each objective: lengthscales [D], output scale and (mean) noise variance of Y.

    With the mean of the weights as an input, its lengthscale stands beside the others.
    """
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


class _WithMean(InputTransform):
    """Points [... x D] with the mean of some of their columns behind them [... x D + 1]."""

    def __init__(self, columns: NDArray[np.bool_]) -> None:
        super().__init__()
        self.transform_on_train = self.transform_on_eval = self.transform_on_fantasize = True
        self.columns = torch.as_tensor(np.flatnonzero(columns))

    def transform(self, X: torch.Tensor) -> torch.Tensor:
        return torch.cat([X, X[..., self.columns].mean(dim=-1, keepdim=True)], dim=-1)


def _fitted(
    X: NDArray[np.float64],
    y: NDArray[np.float64],
    noise: NDArray[np.float64],
    settings: Mapping[str, Any],
    importance: NDArray[np.float64] | None,
    mean: NDArray[np.bool_] | None,
) -> SingleTaskGP:
    """The likeliest of the processes that the fits from each start end in."""
    likelihoods = []
    for kernel in _kernels(X.shape[1], settings, importance, mean is not None):
        process = _process(X, y, noise, settings, kernel, mean)
        likelihoods.append(_fitted_likelihood(ExactMarginalLogLikelihood(process.likelihood, process)))
    best = likelihoods[0] if len(likelihoods) == 1 else max(likelihoods, key=_value)
    return best.eval().model


def _fitted_likelihood(likelihood: ExactMarginalLogLikelihood) -> ExactMarginalLogLikelihood:
    try:
        return fit_gpytorch_mll(likelihood)
    except ModelFittingError:
        # BoTorch draws other starts from the priors where a line search gives up. Without priors all of its attempts
        # are the same, and would be in every rerun: what the line search has come to is taken.
        return fit_gpytorch_mll(likelihood, max_attempts=1, warning_handler=lambda _: True)


def _value(likelihood: ExactMarginalLogLikelihood) -> float:
    """Logarithm of the likelihood times the prior, by observation."""
    process = likelihood.train().model
    with torch.no_grad():
        return float(likelihood(process(*process.train_inputs), process.train_targets))


def _process(
    X: NDArray[np.float64],
    y: NDArray[np.float64],
    noise: NDArray[np.float64],
    settings: Mapping[str, Any],
    kernel: Kernel,
    mean: NDArray[np.bool_] | None,
) -> SingleTaskGP:
    known = settings["noise"] == "known"
    floor = MIN_INFERRED_NOISE_LEVEL * (y.var(ddof=1) or 1.0)
    return SingleTaskGP(
        tensor(X),
        tensor(y),
        train_Yvar=tensor(np.maximum(noise, floor)) if known else None,
        likelihood=None if known else _likelihood(settings),
        covar_module=kernel,
        outcome_transform=Standardize(m=1),
        input_transform=None if mean is None else _WithMean(mean),
    )


def _kernels(
    dimension: int, settings: Mapping[str, Any], importance: NDArray[np.float64] | None, mean: bool
) -> list[Kernel]:
    """The kernel of the settings, once for each start of the fit."""
    matern = settings["kernel"] == "matern52"
    kind, alike = settings["lengthscale_prior"], np.ones(dimension)
    if importance is None or (importance == importance[0]).all():
        importance = alike
    if kind == "importance" and importance is not alike:
        # From where all variables are alike, too: a wrong prior would keep the fit in its neighbourhood.
        modes = [_prior(own, mean).mode for own in (importance, alike)]
        kernels = [_stationary(matern, mode, _prior(importance, mean)) for mode in modes]
    elif kind in ("dimension-scaled", "importance") and mean:
        prior = _prior(alike, mean)
        kernels = [_stationary(matern, prior.mode, prior)]
    elif kind in ("dimension-scaled", "importance"):
        # BoTorch rounds its centre to float32, so that ours would give proposals with other last digits.
        kernels = [get_covar_module_with_dim_scaled_prior(dimension, use_rbf_kernel=not matern)]
    else:
        published = kind == "importance-start" and importance is not alike
        start = starts(importance) if published else np.full(dimension, START)
        kernels = [_stationary(matern, tensor(np.append(start, [START] if mean else [])[None]))]
    return [ScaleKernel(kernel) for kernel in kernels] if matern else kernels


def _prior(importance: NDArray[np.float64], mean: bool) -> LogNormalPrior:
    """BoTorch's dimension-scaled prior of the lengthscales [1 x D, or D + 1], its centres moved by the importance."""
    mean_power = (importance ** (2 * STRENGTH)).mean() ** (1 / (2 * STRENGTH))
    centres = sqrt(2) + log(len(importance)) / 2 + STRENGTH * np.log(mean_power / importance)
    return LogNormalPrior(tensor(np.append(centres, [sqrt(2)] if mean else [])[None]), SCALE)


def _stationary(matern: bool, start: torch.Tensor, prior: LogNormalPrior | None = None) -> Kernel:
    """A kernel with a lengthscale for each input, fitted from `start` [1 x inputs] on."""
    family = MaternKernel if matern else RBFKernel  # the Matern kernel's smoothness is 5/2 unless told
    inputs = start.shape[-1]
    # The fit goes by logarithms: without a prior, lengthscales of variables that do not matter grow without end, and by
    # themselves take two to four times as long on their way, to optima that are no better.
    bound = GreaterThan(MIN_LENGTHSCALE, transform=_bounded_exp, inv_transform=torch.log, initial_value=start)
    options = {} if prior is None else {"lengthscale_prior": prior}
    # The inputs are named, since draws of paths go by the number of variables where they are not.
    return family(ard_num_dims=inputs, active_dims=range(inputs), lengthscale_constraint=bound, **options)


def _bounded_exp(logarithm: torch.Tensor) -> torch.Tensor:
    return logarithm.clamp(max=log(MAX_LENGTHSCALE)).exp()


def starts(importance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengthscales [D] by rank of the importance [D], as AP-BMM starts its fits; of equals, the first ranks first."""
    ranks = np.empty(len(importance))
    ranks[np.argsort(-importance, kind="stable")] = np.arange(len(importance))
    shares, lengthscales = np.array(STARTS).T
    return lengthscales[np.searchsorted(shares, ranks / max(len(importance) - 1, 1))]


def _likelihood(settings: Mapping[str, Any]) -> GaussianLikelihood:
    if settings["lengthscale_prior"] in ("dimension-scaled", "importance"):
        return get_gaussian_likelihood_with_gamma_prior()
    bound = GreaterThan(MIN_INFERRED_NOISE_LEVEL, transform=None, initial_value=START)
    return GaussianLikelihood(noise_constraint=bound)


def _describe(process: Any) -> dict[str, Any]:
    unit = process.outcome_transform.stdvs.item() ** 2
    kernel = process.covar_module
    lengthscales = _stationary_part(process).lengthscale.flatten().tolist()
    mean = {"mean_lengthscale": lengthscales.pop()} if hasattr(process, "input_transform") else {}
    return {
        "lengthscales": lengthscales,
        **mean,
        "outputscale": (kernel.outputscale.item() if isinstance(kernel, ScaleKernel) else 1.0) * unit,
        "noise": process.likelihood.noise.mean().item() * unit,
    }


def _stationary_part(process: Any) -> Any:
    """The kernel that has the lengthscales."""
    kernel = process.covar_module
    return kernel.base_kernel if isinstance(kernel, ScaleKernel) else kernel
