"""Frontier-coverage reranking: of a pool of candidates, those that also fill gaps of the front and keep their distance.

AP-BMM takes of max(q, 3 max(2, q)) candidates, each scored alone, one after the other the one that is largest in

    acquisition + gap_reward Gap - proximity_penalty Prox

Gap looks at the objectives: how near the candidate's posterior mean is to the middle of a long gap of the front. Prox
looks at the space: how near the candidate is to one that is under way or chosen already. Ours differ where the
published ones fail:
- Both lie in [0, 1] and are taken as they are. Published, they are stretched to [0, 1] over the pool, so that a
  difference of 1e-9 weighs as much as one of 1. Only the acquisition, which has no scale, is stretched.
- Distances are a share of the cube's diagonal, both in lengthscales (`proximity`). Published, they are Euclidean: two
  random points of 37 variables are 2.5 apart, and exp(-4 x 2.5) is nothing.
- The front reaches to the reference point: its ends have gaps, too, and a front of one point has two (`gaps`).
  Published, only gaps between points of the front count.
- The front is that of the posterior means, as the candidates' means are, not the observed one of the luckiest.
"""

import numpy as np
from botorch.models import ModelListGP
from numpy.typing import NDArray

from ..errors import BadInput
from ..pareto import non_dominated
from .study import Points, Study
from .surrogate import inputs, lengthscales, posterior

NEAR = 4.0  # how fast proximity falls with distance


def pool_size(q: int) -> int:
    """How many candidates q are chosen from."""
    return max(q, 3 * max(2, q))


def gaps(front: Points, unit: Points) -> tuple[Points, NDArray[np.float64], float]:
    """Middles [g x 2], lengths [g] and mean step of the gaps of a front [k x 2], in multiples of the unit [2].

    front: of two objectives, as distances from the reference point, where it begins and ends: its best value in one
    objective goes on to the reference in the other, and what lies along there is as unknown as any other gap.
    """
    line = front[np.argsort(front[:, 0], kind="stable")] / unit
    line = np.concatenate([[[0.0, line[0, 1]]], line, [[line[-1, 0], 0.0]]])
    steps = np.diff(line, axis=0)
    return line[:-1] + steps / 2, np.linalg.norm(steps, axis=1), float(np.hypot(1, 1) / len(steps))


def gap(mean: Points, front: Points, reference: Points) -> NDArray[np.float64]:
    """How far candidates with posterior means [p x 2] fill the gaps of a front [k x 2], in [0, 1]: [p].

    The largest over the gaps of length / longest * exp(-(distance to its middle)^2 / (2 step^2)); the unit of an
    objective is the way from the reference point to the front's best value. 0 where nothing is above the reference.
    """
    if len(reference) != 2:
        raise BadInput(
            f"gap_reward: of no use with {len(reference)} objectives, whose front has no gaps; set it to 0"
        )
    above = front[(front > reference).all(axis=1)] - reference
    if len(above) == 0:
        return np.zeros(len(mean))
    unit = above.max(axis=0)
    middles, lengths, step = gaps(above, unit)
    squares = (((mean - reference) / unit)[:, None, :] - middles) ** 2
    return (lengths / lengths.max() * np.exp(-squares.sum(axis=-1) / (2 * step**2))).max(axis=1)


def relevance(model: ModelListGP) -> NDArray[np.float64]:
    """How much each input of the surrogate counts in a distance [inputs]: 1 / lengthscale^2, as shares of their sum.

    The mean over the objectives, so that a squared distance is the mean of the objectives' squared distances.
    """
    inverse = lengthscales(model) ** -2
    return (inverse / inverse.sum(axis=1, keepdims=True)).mean(axis=0)


def proximity(points: Points, others: Points, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """How near points [p x inputs] are to the nearest of the others [o x inputs], in [0, 1]: exp(-4 distance) [p].

    weights: of `relevance`. A distance is sqrt(sum_d weights_d (difference in d)^2), 1 from one corner of the cube to
    the opposite one, whatever the number of variables; with one variable it is the difference.
    """
    if len(others) == 0:
        return np.zeros(len(points))
    squares = (weights * (points[:, None, :] - others) ** 2).sum(axis=-1)
    return np.exp(-NEAR * np.sqrt(squares.min(axis=1)))


def choose(
    model: ModelListGP,
    pool: Points,
    acquisition: NDArray[np.float64],
    q: int,
    study: Study,
    gap_reward: float,
    proximity_penalty: float,
) -> tuple[list[int], dict[str, list[float]]]:
    """Rows of the (at most) q chosen of a pool [p x D] with acquisition values [p], and the parts of their scores."""
    filled = np.zeros(len(pool))
    if gap_reward > 0:
        known = posterior(model, study.X)[0]
        filled = gap(posterior(model, pool)[0], known[non_dominated(known)], study.reference)
    low, high = acquisition.min(), acquisition.max()
    scaled = (acquisition - low) / (high - low) if high > low else np.zeros(len(pool))
    seen, taken, weights = inputs(model, pool), inputs(model, study.pending), relevance(model)
    rows: list[int] = []
    near: list[float] = []
    for _ in range(min(q, len(pool))):
        close = proximity(seen, np.concatenate([taken, seen[rows]]), weights)
        score = scaled + gap_reward * filled - proximity_penalty * close
        score[rows] = -np.inf
        rows.append(int(score.argmax()))
        near.append(float(close[rows[-1]]))
    return rows, {
        "scaled_acquisition": scaled[rows].tolist(),
        "gap": filled[rows].tolist(),
        "proximity": near,
    }
