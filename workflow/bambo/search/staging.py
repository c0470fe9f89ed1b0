"""Which candidates are asked all questions, from their answers to the first ones.

Both candidates of a comparison answered the same questions, so what is compared are differences question by question.
On a share of k of a benchmark's N questions, drawn evenly, the mean difference D estimates that on all N with the error
of a sample from a finite population [Cochran1977, 2.6]: var D = (1 - k / N) s^2 / k. A candidate is dominated by
another when it is not better in any objective: P = P(D_1 <= 0, ..., D_m <= 0), with D normal.

What is left enters the surrogate by the difference estimator: the other's score on all questions, plus D.

References:
    [Cochran1977] W. G. Cochran. Sampling Techniques, 3rd edition. Wiley 1977.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from ..evaluation.scores import COLUMNS
from ..objectives import Evaluation
from ..pareto import non_dominated

if TYPE_CHECKING:
    import pandas as pd

# Benchmark -> what each question adds to each objective [questions x m], in the order of the questions.
Terms = Mapping[str, NDArray[np.float64]]


class Difference(NamedTuple):
    """A candidate's objectives less another's on all questions, as far as the first ones tell."""

    mean: NDArray[np.float64]  # [m]
    covariance: NDArray[np.float64]  # [m x m]; infinite where one question does not tell

    @property
    def dominated(self) -> float:
        """Probability that the candidate is not better in any objective."""
        if not np.isfinite(self.covariance).all():
            return 0.0
        spread = self.covariance + np.eye(len(self.mean)) * 1e-12  # of equal answers there is none
        return float(
            multivariate_normal(self.mean, spread, allow_singular=True).cdf(np.zeros(len(self.mean)))
        )


class Judgement(NamedTuple):
    """What the first answers of a candidate say: objectives on all questions, and who dominates it."""

    Y: NDArray[np.float64]  # [m]
    variance: NDArray[np.float64]  # [m]
    probability: float  # to be dominated by the candidate `by`
    by: int


def terms(samples: "pd.DataFrame", normalisation: Mapping[str, Any]) -> Terms:
    """What each question adds to each objective (Eq. 2): objectives are the sums over benchmarks of these means, but
    for a constant.

    samples: rows of samples.parquet, of one candidate.
    """
    specs = normalisation["objectives"].values()
    found = {}
    for benchmark, rows in samples.groupby("benchmark", sort=False):
        means = rows.groupby("question")[sorted({COLUMNS[spec["metric"]] for spec in specs})].mean()
        columns = []
        for spec in specs:
            gap = spec["benchmarks"].get(benchmark)
            scale = 0.0 if gap is None else 1 / (gap["expert"] - gap["base"]) / len(spec["benchmarks"])
            columns.append(scale * means[COLUMNS[spec["metric"]]].to_numpy(float))
        found[str(benchmark)] = np.column_stack(columns)
    return found


def difference(part: Terms, whole: Terms) -> Difference:
    """Of a candidate that answered the first questions, and one that answered all."""
    m = next(iter(part.values())).shape[1]
    mean, covariance = np.zeros(m), np.zeros((m, m))
    for benchmark, own in part.items():
        k, n = len(own), len(whole[benchmark])
        differences = own - whole[benchmark][:k]
        mean += differences.mean(axis=0)
        if k < n:
            spread = np.cov(differences, rowvar=False) if k > 1 else np.full((m, m), np.inf)
            covariance += (1 - k / n) * spread / k
    return Difference(mean, covariance)


def judge(part: Terms, wholes: Sequence[Terms], values: Evaluation) -> Judgement:
    """What the first answers of a candidate say beside candidates that answered all questions.

    values: their objectives [n x m]. The probability is that of the member of their front which most likely dominates;
    that some member does is at least as likely. Objectives are estimated beside the one whose answers differ most
    evenly, since that has the least error; another evaluation would change them as much as that one's.
    """
    differences = [difference(part, whole) for whole in wholes]
    front = np.flatnonzero(non_dominated(values.Y))
    chances = [differences[place].dominated for place in front]
    spreads = [each.covariance.diagonal() for each in differences]
    like = int(np.argmin([spread.sum() for spread in spreads]))
    return Judgement(
        Y=values.Y[like] + differences[like].mean,
        variance=spreads[like] + values.repeat_variance[like],
        probability=max(chances),
        by=int(front[int(np.argmax(chances))]),
    )
