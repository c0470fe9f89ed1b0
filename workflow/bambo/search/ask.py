"""The next points of a search, by the optimiser that its settings name."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from .study import Points, Study

# A module of this package each, with a function `ask`; imported when asked, since few need torch.
OPTIMISERS = ("bayesian", "sobol", "nsga2", "moead", "cma-es", "motpe", "mm-mo", "momm", "map")

Ask = Callable[[Study, int, Mapping[str, Any], int], tuple[Points, dict[str, Any]]]


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q points [q x D], tidy and never asked for before, and what led to them (JSON-able).

    A function of its arguments alone: on one machine and one thread, equal arguments give equal points. An optimiser
    with a state of its own rebuilds it from the observations.
    """
    return optimiser(settings)(study, q, settings, seed)


def optimiser(settings: Mapping[str, Any]) -> Ask:
    """The optimiser that the settings name; importing it takes up to some seconds."""
    module = import_module(f".{settings['optimiser'].replace('-', '_')}", __package__)
    found: Ask = module.ask
    return found
