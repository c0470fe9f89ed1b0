"""When a search ends before its budget does."""

from collections.abc import Sequence


def stalled(hypervolumes: Sequence[float], growth: float, iterations: int) -> bool:
    """Whether the hypervolume has grown by no more than the share `growth` over the last `iterations`.

    hypervolumes: one after the initial design and one after each iteration, all of one reference point.
    """
    if len(hypervolumes) <= iterations:
        return False
    before, now = hypervolumes[-1 - iterations], hypervolumes[-1]
    return now <= before * (1 + growth)
