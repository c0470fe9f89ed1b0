"""Objectives with the questions drawn anew: what other questions of the same kind would have said.

The same questions are drawn for every model and both end points, so that whatever is made of the draws (differences,
dominance, hypervolume) has the errors of models that answered the same questions [Efron1979].

References:
    [Efron1979] B. Efron. Bootstrap Methods: Another Look at the Jackknife. The Annals of Statistics 7(1), 1979.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .evaluation.scores import COLUMNS
from .objectives import METRICS, WHOLE, measured

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
DRAWS = 2000


class Answered(NamedTuple):
    """A scored candidate: scores.json, and the rows of samples.parquet."""

    scores: Mapping[str, Any]
    samples: "pd.DataFrame"


class Resampling:
    """Draws of the questions of one set, the same for all that is asked of it."""

    def __init__(self, answered: Mapping[str, Answered], draws: int = DRAWS, seed: int = 0) -> None:
        """answered: candidate -> answers, of which all have the same questions. Equal seeds draw equal places."""
        self.answered, self.draws = answered, draws
        samples = next(iter(answered.values())).samples
        generator = np.random.default_rng(seed)
        # Benchmark -> how often each question is drawn, as a share [draws x questions].
        self.shares: dict[str, Array] = {}
        for benchmark, rows in samples.groupby("benchmark", sort=True):
            count = rows["question"].nunique()
            self.shares[str(benchmark)] = (
                generator.multinomial(count, np.full(count, 1 / count), draws) / count
            )
        self.metric = cache(self._metric)

    def objectives(self, ids: Sequence[str], normalisation: Mapping[str, Any]) -> Array:
        """Objectives (Eq. 2) of candidates: [draws x n x m]. The normalisation's end points must be answered."""
        prices = normalisation["prices"]
        columns = []
        for spec in normalisation["objectives"].values():
            parts = []
            for benchmark in spec["benchmarks"]:
                expert, base, *own = (
                    self.metric(id, spec["metric"], benchmark, tuple(prices.items()))
                    for id in (spec["expert_id"], spec["base_id"], *ids)
                )
                parts.append((np.stack(own, axis=1) - base[:, None]) / (expert - base)[:, None])
            columns.append(np.mean(parts, axis=0))
        return np.stack(columns, axis=2)

    def raw(self, id: str, metric: str) -> Array:
        """A metric of a candidate, the mean over its benchmarks: [draws]."""
        return np.mean([self.metric(id, metric, benchmark, ()) for benchmark in self.shares], axis=0)

    def _metric(self, id: str, metric: str, benchmark: str, prices: tuple[tuple[str, float], ...]) -> Array:
        """[draws]. What is no mean over answers is drawn by its standard error, on its own."""
        scores, samples = self.answered[id]
        column = _column(metric, samples)
        if column is not None and benchmark != WHOLE:
            rows = samples[samples["benchmark"] == benchmark]
            return self.shares[benchmark] @ rows.groupby("question")[column].mean().to_numpy(float)
        found = measured(scores, metric, benchmark, dict(prices))
        assert found.value is not None
        own = np.random.default_rng([int(id, 16), *map(ord, f"{metric} {benchmark}")])
        return found.value + (found.stderr or 0.0) * own.standard_normal(self.draws)


def _column(metric: str, samples: "pd.DataFrame") -> str | None:
    """The column of a metric that is a mean over answers."""
    if metric in METRICS:
        return COLUMNS.get(metric)
    return next((name for name in samples.columns if metric in (name, name.partition(",")[0])), None)


def interval(draws: Array) -> tuple[Array, Array]:
    """The middle 95 % of draws along the first axis."""
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return low, high


def probability_dominated(Y: Array) -> Array:
    """How often each row of Y [draws x n x m] is dominated by another one of its draw: [n]."""
    at_least = (Y[:, :, None] <= Y[:, None]).all(
        axis=3
    )  # [draws x n x n]: row no better than column anywhere
    worse = (Y[:, :, None] < Y[:, None]).any(axis=3)
    return np.any(at_least & worse, axis=2).mean(axis=0)
