"""Acquisition functions (appendix C): expected hypervolume improvement in three kinds, maximised greedily.

- `qlognehvi`: averages over what the front may be, given the noise [Daulton2021, Ament2023]; the default.
- `qlogehvi`: takes the front of the posterior means as known; for some hundreds of observations.
- `qehvi`: the paper's (Eq. 19): takes the observed front as known [Daulton2020].
Samples are quasi-Monte Carlo over fixed Sobol base samples (Eq. 20). A batch is built one point at a time,
each given those before it; the paper does not say how its batch is maximised, so the greedy batch is ours.

References:
    [Daulton2020] S. Daulton, M. Balandat, E. Bakshy. Differentiable Expected Hypervolume Improvement for
        Parallel Multi-Objective Bayesian Optimization. NeurIPS 2020.
    [Daulton2021] S. Daulton, M. Balandat, E. Bakshy. Parallel Bayesian Optimization of Multiple Noisy
        Objectives with Expected Hypervolume Improvement. NeurIPS 2021.
    [Ament2023] S. Ament et al. Unexpected Improvements to Expected Improvement for Bayesian Optimization.
        NeurIPS 2023.
"""

from collections.abc import Mapping
from typing import Any

import botorch.acquisition.multi_objective.logei as logei
import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.multi_objective.logei import (
    qLogExpectedHypervolumeImprovement,
    qLogNoisyExpectedHypervolumeImprovement,
)
from botorch.acquisition.multi_objective.monte_carlo import qExpectedHypervolumeImprovement
from botorch.models import ModelListGP
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from numpy.typing import NDArray

from .surrogate import posterior, seeded, tensor

# Where there is a compiler, BoTorch would compile a C++ kernel for these functions at first use. That takes
# long, gives other last digits than Python, and if killed leaves a lock that the next process waits for.
logei._load_attempted = True


def build(
    model: ModelListGP,
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    settings: Mapping[str, Any],
    seed: int,
    reference: NDArray[np.float64],
    pending: NDArray[np.float64] | None = None,
) -> AcquisitionFunction:
    """The acquisition function of the settings, to be called within `seeded`.

    X: observed points [n x D]; Y: their objectives [n x m]; reference: [m], unused where the settings ask for
    the worst observed values (appendix C.1); pending: points under way [p x D].
    """
    if settings["reference"] == "worst":
        reference = Y.min(axis=0)
    shared: dict[str, Any] = {
        "model": model,
        "ref_point": tensor(reference),
        "sampler": SobolQMCNormalSampler(torch.Size([settings["mc_samples"]]), seed=seed),
        "X_pending": None if pending is None or len(pending) == 0 else tensor(pending),
    }
    if settings["acquisition"] == "qlognehvi":
        return qLogNoisyExpectedHypervolumeImprovement(X_baseline=tensor(X), prune_baseline=True, **shared)
    family, front = {
        "qlogehvi": (qLogExpectedHypervolumeImprovement, posterior(model, X)[0]),
        "qehvi": (qExpectedHypervolumeImprovement, Y),
    }[settings["acquisition"]]
    return family(partitioning=FastNondominatedPartitioning(tensor(reference), tensor(front)), **shared)


def maximise(
    model: ModelListGP,
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    q: int,
    settings: Mapping[str, Any],
    seed: int,
    reference: NDArray[np.float64],
    pending: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The next q points [q x D] and the acquisition value at each choice [q]; arguments as in `build`."""
    with seeded(seed):
        points, values = optimize_acqf(
            build(model, X, Y, settings, seed, reference, pending),
            bounds=tensor(np.array([[0.0], [1.0]])).repeat(1, X.shape[1]),
            q=q,
            num_restarts=settings["restarts"],
            raw_samples=settings["raw_samples"],
            options={"seed": seed, "init_batch_limit": 32},  # small chunks: less memory, same values
            sequential=True,
        )
    return points.numpy(), np.atleast_1d(np.asarray(values))
