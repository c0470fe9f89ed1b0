"""What an optimiser knows when it is asked, whichever it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..space import rounded

Points = NDArray[np.float64]
Tidy = Callable[[Points], Points]


@dataclass(frozen=True)
class Study:
    """Observations and what is under way; points lie in [0, 1]^D, objectives are maximised.

    X: observed points [n x D], in the order in which they were asked for; Y: their objectives [n x m]; variance: known
    noise of Y [n x m]; asked: all points ever asked for [t x D], observed, failed and under way, none of which comes
    again; pending: points under way [p x D]; reference: fixed reference point [m]; names: of the objectives; tidy:
    gives equal points to equal merges, to 6 decimals; importance: of each variable, in (0, 1] [D], or None; weights:
    which variables are weights [D], None for all; bounds: within which to propose [2 x D], None for the whole cube;
    spread: makes points that are uniform on the cube ones whose weights are uniform on the simplex.
    """

    X: Points
    Y: Points
    variance: Points
    asked: Points
    pending: Points
    reference: Points
    names: Sequence[str]
    tidy: Tidy = field(default=rounded)
    importance: Points | None = None
    weights: NDArray[np.bool_] | None = None
    bounds: Points | None = None
    spread: Tidy = field(default=lambda points: points)

    @property
    def dimension(self) -> int:
        return self.X.shape[1]


def fresh(points: Points, asked: Points) -> list[int]:
    """Rows of `points` that equal neither a point that was asked for nor an earlier row."""
    seen = {tuple(point) for point in rounded(asked)}
    found = []
    for row, point in enumerate(map(tuple, points)):
        if point not in seen:
            found.append(row)
            seen.add(point)
    return found
