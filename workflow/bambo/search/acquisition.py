"""Acquisition functions (appendix C): expected hypervolume improvement in three kinds, and Thompson sampling.

- `qlognehvi`: averages over what the front may be, given the noise [Daulton2021, Ament2023]; the default.
- `qlogehvi`: takes the front of the posterior means as known; `qlognehvi` becomes it above KNOWN_FRONT observations,
  where the front's own uncertainty is small and averaging over it takes most of the time.
- `qehvi`: the paper's (Eq. 19): takes the observed front as known [Daulton2020].
- `thompson`: for large batches. Each of its points maximises a draw of all objectives from their posterior, as a
  function [Wilson2020], under a random scalarisation [Paria2019]: min_i (f_i - r_i) / l_i with the reference point r
  and a direction l drawn uniformly from the unit sphere's positive part. The mean over l of the largest value of its
  m-th power is, but for a constant, the hypervolume [Zhang2020]. Draws and directions differ, so points of a
  batch need not know of each other, and a batch costs little more than a point.
Samples of the first three are quasi-Monte Carlo over fixed Sobol base samples (Eq. 20). Their batch is built one point
at a time, each given those before it; the paper does not say how its batch is maximised, so the greedy batch is ours.
Points under way are integrated over by `qlognehvi`. Where the front is known, that would take twice the time for each
of them, and they are believed instead [Ginsbourger2010]: the surrogate is told its own mean there, which leaves
its mean as it is and takes variance away, and these means join the front. So are the points of a large batch, after
every JOINT of them.

References:
    [Daulton2020] S. Daulton, M. Balandat, E. Bakshy. Differentiable Expected Hypervolume Improvement for
        Parallel Multi-Objective Bayesian Optimization. NeurIPS 2020.
    [Daulton2021] S. Daulton, M. Balandat, E. Bakshy. Parallel Bayesian Optimization of Multiple Noisy
        Objectives with Expected Hypervolume Improvement. NeurIPS 2021.
    [Ament2023] S. Ament et al. Unexpected Improvements to Expected Improvement for Bayesian Optimization.
        NeurIPS 2023.
    [Ginsbourger2010] D. Ginsbourger, R. Le Riche, L. Carraro. Kriging Is Well-Suited to Parallelize Optimization.
        Computational Intelligence in Expensive Optimization Problems, Springer 2010.
    [Paria2019] B. Paria, K. Kandasamy, B. Póczos. A Flexible Framework for Multi-Objective Bayesian Optimization
        using Random Scalarizations. UAI 2019.
    [Wilson2020] J. T. Wilson et al. Efficiently Sampling Functions from Gaussian Process Posteriors. ICML 2020.
    [Zhang2020] R. Zhang, D. Golovin. Random Hypervolume Scalarizations for Provable Multi-Objective Black Box
        Optimization. ICML 2020.
"""

from collections.abc import Callable, Mapping
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
from botorch.optim.initializers import initialize_q_batch
from botorch.sampling import SobolQMCNormalSampler
from botorch.sampling.pathwise import get_matheron_path_model
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
from numpy.typing import NDArray

from ..errors import BadInput
from .design import sobol, within
from .surrogate import posterior, seeded, tensor

Function = Callable[[torch.Tensor], torch.Tensor]
KNOWN_FRONT = 200
JOINT = 8  # points of a batch over which `qlogehvi` and `qehvi` average: of n points they take 2^n - 1 terms
CHUNK = 32  # raw points at a time: less memory, same values
APART = 0.01  # optima that differ less than this in every variable are one
STEP, STEPS = 0.05, 100  # of the optimiser of draws: the largest step in a weight, and how many

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
) -> Function:
    """The acquisition function of one point [b x 1 x D -> b] of the settings, to be called within `seeded`.

    X: observed points [n x D]; Y: their objectives [n x m]; reference: [m], unused where the settings ask for
    the worst observed values (appendix C.1); pending: points under way [p x D], by whose number `thompson` takes
    another draw.
    """
    reference = _corner(Y, settings, reference)
    if settings["acquisition"] == "thompson":
        torch.manual_seed(seed + (0 if pending is None else len(pending)))
        draw = _draws(model, 1, reference)
        return lambda points: draw(points.squeeze(-2))[0]
    return _improvement(model, X, Y, settings, seed, reference, pending)


def maximise(
    model: ModelListGP,
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    q: int,
    settings: Mapping[str, Any],
    seed: int,
    reference: NDArray[np.float64],
    pending: NDArray[np.float64] | None = None,
    bounds: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The next q points [q x D] and the acquisition value at each choice [q]; arguments as in `build`.

    bounds: of the points [2 x D], None for the unit cube.
    """
    box = _box(bounds, X.shape[1])
    reference = _corner(Y, settings, reference)
    with seeded(seed):
        if settings["acquisition"] == "thompson":
            raw = within(sobol(X.shape[1], settings["raw_samples"], seed), bounds)
            return _optima(_draws(model, q, reference), raw, settings, box)
        found, values = np.empty((0, X.shape[1])), np.empty(0)
        while len(found) < q:
            waiting = found if pending is None else np.concatenate([pending, found])
            points, own = optimize_acqf(
                _improvement(model, X, Y, settings, seed, reference, waiting),
                bounds=box,
                q=_together(X, q - len(found), settings),
                num_restarts=settings["restarts"],
                raw_samples=settings["raw_samples"],
                options={"seed": seed, "init_batch_limit": CHUNK},
                sequential=True,
            )
            found = np.concatenate([found, points.numpy()])
            values = np.append(values, np.asarray(own))
    return found, values


def pool(
    model: ModelListGP,
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    size: int,
    settings: Mapping[str, Any],
    seed: int,
    reference: NDArray[np.float64],
    pending: NDArray[np.float64] | None = None,
    bounds: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Candidates [size x D] with the acquisition value of each alone [size], best first; arguments as in `maximise`.

    They are the optima in which the optimiser's restarts end, as far as these differ, then the best raw points: a pool
    costs as much as one optimisation. BadInput for `thompson`, whose candidates are each best in a draw of their own.
    """
    if settings["acquisition"] == "thompson":
        raise BadInput(
            "acquisition: found thompson with gap_reward or proximity_penalty, which need one value of all candidates; "
            "set both to 0"
        )
    box = _box(bounds, X.shape[1])
    reference = _corner(Y, settings, reference)
    with seeded(seed):
        function = _improvement(model, X, Y, settings, seed, reference, pending)
        raw = tensor(within(sobol(X.shape[1], max(settings["raw_samples"], 2 * size), seed), bounds))[:, None]
        with torch.no_grad():
            at_raw = torch.cat([function(chunk) for chunk in raw.split(CHUNK)])
        starts, _ = initialize_q_batch(raw, at_raw, max(settings["restarts"], size))
        optima, values = optimize_acqf(
            function,
            bounds=box,
            q=1,
            num_restarts=len(starts),
            batch_initial_conditions=starts,
            return_best_only=False,
        )
    found, scores = _distinct(optima[:, 0].numpy(), np.asarray(values), size)
    # Optima stay before raw points, which are no better than they.
    others, ranks = _distinct(raw[:, 0].numpy(), at_raw.numpy(), len(raw))
    far = [row for row, point in enumerate(others) if np.abs(found - point).max(axis=1).min() > APART]
    found = np.concatenate([found, others[far]])[:size]
    scores = np.concatenate([scores, ranks[far]])[:size]
    return found, scores


def _distinct(
    points: NDArray[np.float64], values: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best `size` points [p x D] by value [p], none of which is like a better one."""
    kept: list[int] = []
    for row in np.argsort(-values, kind="stable"):
        if all(np.abs(points[row] - points[better]).max() > APART for better in kept):
            kept.append(int(row))
        if len(kept) == size:
            break
    return points[kept], values[kept]


def _improvement(
    model: ModelListGP,
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    settings: Mapping[str, Any],
    seed: int,
    reference: NDArray[np.float64],
    pending: NDArray[np.float64] | None,
) -> AcquisitionFunction:
    sampler = SobolQMCNormalSampler(torch.Size([settings["mc_samples"]]), seed=seed)
    shared: dict[str, Any] = {"ref_point": tensor(reference), "sampler": sampler}
    pending = X[:0] if pending is None else pending
    if settings["acquisition"] == "qlognehvi" and not _knows_front(X, settings):
        return qLogNoisyExpectedHypervolumeImprovement(
            model,
            X_baseline=tensor(X),
            prune_baseline=True,
            X_pending=tensor(pending) if len(pending) else None,
            **shared,
        )
    paper = settings["acquisition"] == "qehvi"
    family: Any = qExpectedHypervolumeImprovement if paper else qLogExpectedHypervolumeImprovement
    front = Y if paper else posterior(model, X)[0]
    if len(pending):
        front = np.concatenate([front, posterior(model, pending)[0]])
        model = _believing(model, tensor(pending))
    return family(
        model, partitioning=FastNondominatedPartitioning(tensor(reference), tensor(front)), **shared
    )


def _knows_front(X: NDArray[np.float64], settings: Mapping[str, Any]) -> bool:
    """Whether `qlognehvi` gives way to `qlogehvi`; by the number of observations alone, so that decisions replay."""
    return settings["acquisition"] == "qlognehvi" and len(X) > KNOWN_FRONT


def _together(X: NDArray[np.float64], left: int, settings: Mapping[str, Any]) -> int:
    """How many of the points that a batch still lacks know of each other's spread; then they are believed."""
    if _knows_front(X, settings):
        return 1
    return left if settings["acquisition"] == "qlognehvi" else min(left, JOINT)


def _believing(model: ModelListGP, points: torch.Tensor) -> ModelListGP:
    """The model, told that the points [p x D] were observed, each as its mean has it, with the usual noise."""
    with torch.no_grad():
        processes: list[Any] = []
        own: Any = model.models
        for process in own:
            mean = process.posterior(points).mean
            # In the units of the process; where one noise is inferred, that is taken whatever is given.
            noise = process.likelihood.noise.mean().expand_as(mean)
            known = isinstance(process.likelihood, FixedNoiseGaussianLikelihood)
            options = {"noise": noise} if known else {}
            processes.append(process.condition_on_observations(points, mean, **options))
    return ModelListGP(*processes)


def _box(bounds: NDArray[np.float64] | None, dimension: int) -> torch.Tensor:
    """Bounds [2 x D]; those of the unit cube for None."""
    return tensor(np.array([np.zeros(dimension), np.ones(dimension)]) if bounds is None else bounds)


def _corner(
    Y: NDArray[np.float64], settings: Mapping[str, Any], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    return Y.min(axis=0) if settings["reference"] == "worst" else reference


def _draws(model: ModelListGP, q: int, reference: NDArray[np.float64]) -> Function:
    """What each of q draws is to maximise [b x D -> q x b, or q x b x D -> q x b]."""
    directions = torch.randn(q, 1, len(reference), dtype=torch.float64).abs()
    directions /= directions.norm(dim=-1, keepdim=True)
    with torch.no_grad():
        paths = get_matheron_path_model(model, torch.Size([q]))
    corner = tensor(reference)
    return lambda points: ((paths(points) - corner) / directions).amin(dim=-1)


def _optima(
    draws: Function, raw: NDArray[np.float64], settings: Mapping[str, Any], box: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each draw is largest [q x D], and how large [q]; from the best of the raw points [r x D] on, within
    the box [2 x D]."""
    candidates = tensor(raw)
    with torch.no_grad():
        points = candidates[draws(candidates).topk(settings["restarts"]).indices]
    # By gradient steps, not L-BFGS, which takes ten times as long for equal values: its line search is one for all
    # draws, and a minimum over objectives has kinks.
    points.requires_grad_()
    optimiser = torch.optim.Adam([points], lr=STEP, maximize=True)
    for _ in range(STEPS):
        (points.grad,) = torch.autograd.grad(draws(points).sum(), points)
        optimiser.step()
        with torch.no_grad():
            points.clamp_(*box)
    with torch.no_grad():
        values = draws(points)
    best = torch.arange(len(values)), values.argmax(dim=-1)
    return points.detach()[best].numpy(), values[best].numpy()
