"""The merging methods by name: what each does, and with which parameters. Their arithmetic is in `merging`.

With task vectors d_j = theta_j - base, weights w_j and a mask S (the method's sparsifier), a merged tensor is

    base + lambda * sum_j w_j S(d_j)                                  plain
    base + lambda * sum_{j agrees} w_j S(d_j)                         with consensus
    base + lambda * sum_{j agrees} w_j S(d_j) / sum_{j agrees} w_j    normalised, too

where, element by element, j agrees if S(d_j) has the sign of sum_j w_j S(d_j) (0 counts as +).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .errors import BadInput

Sparsifier = Literal["none", "magnitude", "band", "random", "rank"]

# What the parameters mean; `check_parameters` has their bounds.
PARAMETERS: dict[str, str] = {
    "lambda": "factor of the merged task vector",
    "density": "share of a task vector's elements that is kept; the papers' drop rate is 1 - density",
    "gamma": "share of a task vector's elements, the largest ones, that is dropped as outliers",
    "epsilon": "how far the probability to be kept, density on average, rises and falls with an element's rank in "
    "its row (half of the width, as in mergekit; the paper's epsilon is the whole)",
}


@dataclass(frozen=True)
class Method:
    """One merging method. `parameters`: name -> default; `source`: where it is from."""

    source: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    task_vectors: bool = True
    sparsifier: Sparsifier = "none"
    consensus: bool = False
    normalise: bool = False

    @property
    def random(self) -> bool:
        """Whether masks are drawn, from a seed."""
        return self.sparsifier in ("random", "rank")

    @property
    def weightless(self) -> bool:
        """Whether the weight of a single task vector cancels out: the divisor is that weight."""
        return self.consensus and self.normalise


_TIES = "Yadav et al., TIES-Merging, NeurIPS 2023"
_DARE = "Yu et al., Language Models are Super Mario, ICML 2024"
_BREADCRUMBS = "Davari and Belilovsky, Model Breadcrumbs, ECCV 2024"
_DELLA = "Deep et al., DELLA-Merging, 2024"

METHODS: dict[str, Method] = {
    "linear": Method("Wortsman et al., Model soups, ICML 2022; BAMBO, Eq. 3", task_vectors=False),
    "slerp": Method("Shoemake, Animating rotation with quaternion curves, 1985", task_vectors=False),
    "task_arithmetic": Method(
        "Ilharco et al., Editing models with task arithmetic, ICLR 2023", {"lambda": 1.0}
    ),
    "ties": Method(
        _TIES, {"density": 0.2, "lambda": 1.0}, sparsifier="magnitude", consensus=True, normalise=True
    ),
    "dare_linear": Method(_DARE, {"density": 0.5, "lambda": 1.0}, sparsifier="random"),
    "dare_ties": Method(_DARE, {"density": 0.5, "lambda": 1.0}, sparsifier="random", consensus=True),
    "breadcrumbs": Method(_BREADCRUMBS, {"density": 0.9, "gamma": 0.01, "lambda": 1.0}, sparsifier="band"),
    "breadcrumbs_ties": Method(
        _BREADCRUMBS, {"density": 0.9, "gamma": 0.01, "lambda": 1.0}, sparsifier="band", consensus=True
    ),
    "della": Method(
        _DELLA,
        {"density": 0.5, "epsilon": 0.15, "lambda": 1.0},
        sparsifier="rank",
        consensus=True,
        normalise=True,
    ),
    "della_linear": Method(_DELLA, {"density": 0.5, "epsilon": 0.15, "lambda": 1.0}, sparsifier="rank"),
}


def check_parameters(place: str, method: str, values: Mapping[str, float]) -> None:
    """BadInput, beginning with `place`, where a method does not know a parameter, lacks one, or it is out of bounds."""
    known = METHODS[method].parameters
    for name in values:
        if name not in known:
            raise BadInput(f"{place}.{name}: of no use with method: {method}; remove it")
    for name in known:
        if name not in values:
            raise BadInput(f"{place}.{name}: missing, expected a number for method: {method}; add it")
    density, gamma, epsilon = (values.get(key, 0.0) for key in ("density", "gamma", "epsilon"))
    if "density" in known and not 0 < density <= 1:
        raise BadInput(f"{place}.density: found {density:g}, expected more than 0 and at most 1; correct it")
    if not 0 <= gamma < 1 or gamma + density > 1:
        raise BadInput(
            f"{place}.gamma: found {gamma:g} with density {density:g}, expected 0 or more, and at most 1 together; "
            "lower one"
        )
    if epsilon and not (epsilon > 0 and density - epsilon > 0 and density + epsilon < 1):
        raise BadInput(
            f"{place}.epsilon: found {epsilon:g} with density {density:g}, expected probabilities "
            "density - epsilon to density + epsilon between 0 and 1; lower it"
        )
    if "lambda" in known and not values["lambda"] > 0:
        raise BadInput(f"{place}.lambda: found {values['lambda']:g}, expected more than 0; correct it")
