"""When a search ends: its budget, and what may end it before."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any


def planned_evaluations(settings: Mapping[str, Any]) -> int:
    """How many evaluations the settings of a search ask for, unless it stops earlier."""
    initial = len(settings["weights"]) if settings["initial"] == "grid" else settings["n_initial"]
    planned = initial + settings["iterations"] * settings["batch_size"]
    return min(planned, settings["evaluations"] or planned)


def budget(settings: Mapping[str, Any]) -> int:
    """Iterations of a synchronous search, as far as `evaluations` allows; evaluations of an asynchronous one."""
    if settings["schedule"] == "async":
        return planned_evaluations(settings)
    if settings["evaluations"] is None:
        return settings["iterations"]
    left = settings["evaluations"] - settings["n_initial"]
    return min(settings["iterations"], ceil(left / settings["batch_size"]))


def slots(settings: Mapping[str, Any]) -> int:
    """Candidates that an asynchronous search has under way together."""
    return settings["slots"] or settings["batch_size"]


def stalled(hypervolumes: Sequence[float], growth: float, iterations: int) -> bool:
    """Whether the hypervolume has grown by no more than the share `growth` over the last `iterations`.

    hypervolumes: one after the initial design and one after each iteration, all of one reference point.
    """
    if len(hypervolumes) <= iterations:
        return False
    before, now = hypervolumes[-1 - iterations], hypervolumes[-1]
    return now <= before * (1 + growth)
