"""Sobol points: the initial design, gone on with. Also what fills a batch whose points were asked for before."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .design import sobol, within
from .study import Points, Study, fresh


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q scrambled Sobol points after those that were asked for; see `ask.ask`.

    The sequence is that of the initial design, whose seed is the search's: `seed` is of no use here.
    """
    info = {"surrogate": None, "acquisition_value": None, "replaced": 0}
    return free(study, q, settings["seed"]), info


def free(study: Study, q: int, seed: int) -> Points:
    """The first q points [q x D] of a scrambled Sobol sequence that were not asked for, within the bounds."""
    count = q + len(study.asked)
    while True:
        cube = sobol(study.dimension, count, seed)
        box = study.spread(cube) if study.bounds is None else within(cube, study.bounds)
        points = study.tidy(box)
        found = points[fresh(points, study.asked)]
        if len(found) >= q:
            return found[:q]
        count *= 2  # to 6 decimals some points of the sequence are equal


def filled(found: Points, q: int, study: Study, seed: int) -> tuple[Points, int]:
    """q points that were not asked for, and how many of them are Sobol points: the first ones of `found` [n x D] that
    are new, tidy, then what Sobol points it takes."""
    found = study.tidy(found)
    kept = found[fresh(found, study.asked)][:q]
    missing = q - len(kept)
    if missing == 0:
        return kept, 0
    others = replace(study, asked=np.concatenate([study.asked, kept]))
    return np.concatenate([kept, free(others, missing, seed)]), missing
