"""Named settings of a search: flat dicts of primitives. A config names one and overrides what it likes."""

from typing import Any

from ..objectives import NOISE_SHARE

# The recommended settings: robust with tens of noisy observations (docs say what was measured).
_ROBUST: dict[str, Any] = {
    "granularity": "block",
    "method": "linear",
    "density": None,  # None: the method's default, of these four
    "gamma": None,
    "epsilon": None,
    "lambda": None,
    "rescale": "papers",
    "without_base": "refuse",
    "n_blocks": None,  # None: as the run's `blocks` says
    "strategy": None,
    "fold": True,  # a variable that moves next to nothing joins its neighbour
    "initial": "warm-start",
    "n_initial": 8,
    "weights": None,  # only for initial: grid
    "start_from": None,
    "box": None,
    "schedule": "sync",
    "slots": None,  # None: batch_size
    "iterations": 10,
    "batch_size": 4,
    "evaluations": None,  # None: n_initial + iterations * batch_size
    "optimiser": "bayesian",
    "kernel": "rbf",
    "lengthscale_prior": "dimension-scaled",
    "mean_input": False,
    "noise": "known",
    "noise_share": NOISE_SHARE,
    "acquisition": "qlognehvi",
    "reference": "fixed",
    "sparsity": False,
    "mc_samples": 128,
    "restarts": 10,
    "raw_samples": 512,
    "gap_reward": 0.0,
    "proximity_penalty": 0.0,
    "leave": None,
    "seed": 0,
    "stop": None,
}

# Weights for the whole model, on a grid.
_GRID = _ROBUST | {
    "granularity": "model",
    "initial": "grid",
    "weights": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "n_initial": 9,
    "iterations": 0,
}

_LAYERS = _ROBUST | {"granularity": "layer"}

_AP_BMM = _LAYERS | {
    "schedule": "async",
    "lengthscale_prior": "importance",
    "gap_reward": 0.25,
    "proximity_penalty": 0.15,
}

# As MM-MO's code has it: all densities but the ends.
_DENSITY = {"min": 0.001, "max": 0.999}

PRESETS: dict[str, dict[str, Any]] = {
    "bambo-robust": _ROBUST,
    # Sections 3.3, 4.3 and appendices B and C of the paper. The greedy batch is ours.
    "bambo": _ROBUST
    | {
        "fold": False,
        "iterations": 20,
        "kernel": "matern52",
        "lengthscale_prior": "none",
        "noise": "inferred",
        "acquisition": "qehvi",
        "reference": "worst",
    },
    # Every layer a block, the paper's other comparison (section 4.3).
    "layer-wise": _LAYERS,
    "model-grid": _GRID,
    # AP-BMM with a prior that lasts and the mended reranking.
    "ap-bmm": _AP_BMM,
    # Its published settings: the prior as starting values of the lengthscales; 8 + 40 evaluations, 4 at a time. Not in
    # a search's hands are the article's reference point (-.2, -.2), and its prior over the scored questions.
    "ap-bmm-published": _AP_BMM
    | {"fold": False, "kernel": "matern52", "lengthscale_prior": "importance-start", "noise": "inferred"},
    # The paper's baselines (section 4.3): one that needs a base is no reason not to compare the others.
    "baseline": _GRID | {"without_base": "leave-out"},
    # Rivals, see docs/searches.md. What any search must beat: the initial design, gone on with.
    "sobol": _LAYERS | {"optimiser": "sobol"},
    # Deb et al., IEEE TEVC 2002.
    "nsga2": _LAYERS | {"optimiser": "nsga2"},
    # Zhang and Li, IEEE TEVC 2007.
    "moead": _LAYERS | {"optimiser": "moead"},
    # Akiba et al., Nature Machine Intelligence 2025: weights and densities of each layer, DARE with TIES.
    "cma-es": _LAYERS | {"optimiser": "cma-es", "method": "dare_ties", "density": _DENSITY},
    # Ozaki et al., GECCO 2020.
    "motpe": _LAYERS | {"optimiser": "motpe"},
    # Li et al., IEEE TEVC 2025 (MM-MO): a weight and a density for the whole model, sparsity as an objective.
    "mm-mo": _ROBUST
    | {
        "granularity": "model",
        "method": "dare_ties",
        "density": _DENSITY,
        "optimiser": "mm-mo",
        "noise": "inferred",
        "acquisition": "qlogehvi",
        "reference": "worst",
        "sparsity": True,
    },
    # MM-MO as AP-BMM compares it: layer-wise, with qNEHVI.
    "momm": _LAYERS | {"optimiser": "momm"},
    # Li et al., ICLR 2025 (MAP).
    "map": _LAYERS | {"optimiser": "map"},
    # Synchronous qNEHVI as AP-BMM compares it.
    "qnehvi": _LAYERS | {"kernel": "matern52"},
}

# What searches were before these keys were: with these values a search is tied to the same settings as then.
NEUTRAL: dict[str, Any] = {
    "start_from": None,
    "box": None,
    "schedule": "sync",
    "optimiser": "bayesian",
    "mean_input": False,
    "sparsity": False,
    "gap_reward": 0.0,
    "proximity_penalty": 0.0,
    "leave": None,
}
