"""Simulated landscapes of merged models: what a merge of two language models scores, made up from its weights.

A search can be compared on hundreds of them in the time that one real evaluation takes, and the truth is known.
Nothing here was fitted to a real landscape but the scales, which are those of the paper's Table 2: end points, spans
and noise of Qwen3-4B Thinking and Instruct on GPQA-Diamond (198 questions) and AIME25 (30). Every seed is another
landscape.

Points. A model has 38 groups of tensors: embeddings, 36 layers, head. x_l in [0, 1] is the weight of the thinking
model in group l; 0 everywhere is Instruct (short answers), 1 everywhere Thinking (more right ones). A coarser space
shares a variable among the groups of a block, so that a block point is a layer point and its truth the same
(`Problem`).

Importance. Differences of the sources grow with depth, log d_l = 1.5 z_l + .4 F_l + .2 e_l (z: depth from 0 to 1; F:
a smooth Gaussian field over the layers of unit variance, correlation exp(-distance / 4), since neighbouring layers do
similar things; e: white). A group's importance for accuracy w_l and for tokens v_l is unequal and not the same:
    log w_l = .5 d~_l + .5 S_l + 1.3 A_l + .6 e_l,   log v_l = .5 d~_l + .5 S_l + 1.3 T_l + .6 e'_l,
d~ the standardised log d, S, A, T smooth fields; embeddings have 1.5 less, the head .5 less. Each benchmark has its
own w^b, v^b: a field of .3 more. All are normalised to sum 1. What a search can gain over one weight for the whole
model is due to w and v being unlike.

Accuracy. Progress of benchmark b from Instruct (0) to Thinking (1):
    r = sat_2(sum_l w_l g_l(x_l)) - .8 sum_l c_l (x_l - x_{l+1})^2,
    g_l(x) = x + h_l x (1 - x), h_l ~ N(.5, .8^2) cut to [-.9, 2], sat_k(s) = (1 - exp(-k s)) / (1 - exp(-k)).
Accuracy saturates (sat); layers differ in where a weight pays, and with h_l > 1 a mixture is better than either
source, which is how a merge can beat both; neighbours at odds lose accuracy, c_l being the mean importance of the
two, scaled to sum 1. The share of questions answered is p_b = Phi(a_b), with a_b linear in r between the end points'
values.

Tokens. The mean length grows from Instruct's m_b(0) to Thinking's m_b(1) with s = sum_l v_l x_l along a logistic
curve of slope 5 about .45, as reported for interpolations: a model begins to reason at length within a short stretch.

Answers. Candidate x answers question q of benchmark b rightly where
    a_b(x) > sqrt(.7) d_q + sqrt(.3) e_xq,   d, e ~ N(0, 1),
d_q the question's difficulty, which all candidates share, and e_xq the answer's own part. This is the Rasch model
with a normal ogive in place of the logistic curve, for which the mean over questions is Phi(a_b) exactly, so that the
truth has no error. The variance of a mean over n questions is binomial, p (1 - p) / n, whatever the shares; of it,
about half is common to candidates of like ability (.49 at p = .5) and cancels between them: candidates are paired.
The length of an answer is m_b exp(sqrt(.7) .345 u_q + sqrt(.3) .345 e'_xq - .345^2 / 2), u_q with correlation .5 to
d_q: harder questions take longer. Own parts are drawn from the point, so that the same merge has the same scores
whoever asks.

Noise level. An observation is truth + sqrt(level) (answers - truth), for each question: at level 1 one answer a
question, at .25 a quarter of the variance with the same pairing (four answers on four times as many questions would
give that), at 0 the truth. `told` is the variance that a user's workflow would reckon by itself: .25 of the binomial
variance of the answers (one right and one wrong added) and of the squared standard error of tokens, at level 1, too,
of whose variance half is candidates' own; at level 0 it is 0, as for any function known to be exact.

Objectives are normalised between the true end points (Eq. 2 of the paper), f1 from accuracies, f2 from tokens, as
means over the two benchmarks. At full noise a model's f1 has a standard deviation of about .27, its f2 of .033 where
answers are as long as in the paper's front (8,000 and 17,000 tokens). One weight for the whole model reaches .84 of
the best hypervolume in 38 variables, 88 random points .66 (means over seeds 0-9); the space of 6 hybrid blocks holds
.96 of it.

Importance as estimated without any evaluation, for searches that use a prior: the truth I_l = sqrt(w_l v_l) (means
over the benchmarks) with an error of 1 standard deviation of log I, log I^ = log I + sd(log I) e, hence a correlation
of .7 in logarithms, then the robust squash of AP-BMM, sigmoid((I^ - median) / (1.4826 MAD)), cut to [.05, 1].

Durations follow tokens: 120 s for merging and loading, then all tokens generated at 700 a second, times a log-normal
factor of sd .1: about 7 minutes for Instruct, an hour for Thinking.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import numpy as np
from bambo.objectives import NOISE_SHARE
from bambo.partition import blocks
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

Array = NDArray[np.float64]

VERSION = 1  # of the landscapes: scores of another version are never compared with these
LAYERS = 36
GROUPS = LAYERS + 2  # with embeddings, first, and head, last
BENCHMARKS = ("GPQA-Diamond", "AIME25")
QUESTIONS = (198, 30)
ACCURACY = np.array([[0.575, 0.573], [0.7176, 0.7313]])  # [Instruct, Thinking x benchmarks]
TOKENS = np.array([[1000.0, 3039.0], [9332.0, 21005.0]])
SHARED = 0.7  # share of the latent variance that is the question's
LENGTHS = 0.345  # standard deviation of the logarithm of an answer's length
SATURATION, ODDS = 2.0, 0.8
SLOPE, MIDDLE = 5.0, 0.45
SECONDS, SPEED, JITTER = 120.0, 700.0, 0.1
OBJECTIVES = ("accuracy", "efficiency")
REFERENCE = (-0.1, -0.1)


class Observation(NamedTuple):
    """What evaluating n points gave: objectives and told variances [n x 2], seconds and tokens generated [n]."""

    Y: Array
    told: Array
    seconds: Array
    tokens: Array


class Answers(NamedTuple):
    """Answers of n points to the questions asked of a benchmark: right or not, and tokens, each [n x questions]."""

    right: Array
    tokens: Array


class Landscape:
    """The landscape of a seed, in terms of layers; see the module's docstring for all formulas."""

    def __init__(self, seed: int, noise: float = 0.25) -> None:
        generator = np.random.default_rng([VERSION, seed])
        self.seed, self.noise = seed, noise
        depth = np.concatenate([[0.0], np.linspace(0, 1, LAYERS), [1.0]])
        self.differences = np.exp(1.5 * depth + 0.4 * _field(generator) + 0.2 * _white(generator))
        size = np.log(self.differences)
        size = (size - size.mean()) / size.std()
        common = 0.5 * size + 0.5 * _field(generator)
        common[0] -= 1.5
        common[-1] -= 0.5
        # Importance for accuracy and for tokens of each benchmark: [2 x benchmarks x groups].
        logs = [
            common + 1.3 * _field(generator) + 0.6 * _white(generator) + 0.3 * own
            for own in (np.stack([_field(generator) for _ in BENCHMARKS]) for _ in OBJECTIVES)
        ]
        self.accuracy_importance, self.token_importance = (_shares(np.exp(values)) for values in logs)
        self.bend = np.clip(0.5 + 0.8 * _white(generator), -0.9, 2.0)
        pairs = (self.accuracy_importance[:, 1:] + self.accuracy_importance[:, :-1]) / 2
        self._pairs = _shares(pairs)
        mean = np.log(self.accuracy_importance.mean(axis=0) * self.token_importance.mean(axis=0)) / 2
        self.importance = _squashed(np.exp(mean + mean.std() * _white(generator)))
        self.difficulty = [generator.standard_normal(n) for n in QUESTIONS]
        self.length = [
            0.5 * hard + sqrt(0.75) * generator.standard_normal(len(hard)) for hard in self.difficulty
        ]

    def ability(self, X: Array) -> Array:
        """a_b of layer points X [n x 38]: [n x benchmarks]."""
        pull = (X + self.bend * X * (1 - X)) @ self.accuracy_importance.T
        progress = _saturated(pull) - ODDS * (np.diff(X, axis=1) ** 2 @ self._pairs.T)
        low, high = norm.ppf(ACCURACY)
        return low + (high - low) * progress

    def accuracy(self, X: Array) -> Array:
        """True share of right answers: [n x benchmarks]."""
        return norm.cdf(self.ability(X))

    def tokens(self, X: Array) -> Array:
        """True mean tokens an answer: [n x benchmarks]."""
        start, end = expit(SLOPE * (np.array([0.0, 1.0]) - MIDDLE))
        grown = (expit(SLOPE * (X @ self.token_importance.T - MIDDLE)) - start) / (end - start)
        low, high = TOKENS
        return low + (high - low) * grown

    def true(self, X: Array) -> Array:
        """Noise-free objectives [n x 2] of layer points X [n x 38]."""
        return normalised(self.accuracy(X), self.tokens(X))

    def answers(self, X: Array, share: float = 1.0, repeat: int = 0) -> list[Answers]:
        """Answers to the first `share` of each benchmark's questions, which are in random order."""
        found = []
        own = [np.random.default_rng(_key(self.seed, repeat, x)) for x in X]
        for b, (ability, tokens) in enumerate(zip(self.ability(X).T, self.tokens(X).T, strict=True)):
            asked = questions_asked(share)[b]
            # All questions' draws, whatever the share: more questions keep the answers to the first.
            draws = np.stack([each.standard_normal((2, QUESTIONS[b])) for each in own])[..., :asked]
            latent = sqrt(SHARED) * np.stack([self.difficulty[b], self.length[b]])[:, :asked]
            latent = latent + sqrt(1 - SHARED) * draws
            right = (ability[:, None] > latent[:, 0]).astype(float)
            lengths = tokens[:, None] * np.exp(LENGTHS * latent[:, 1] - LENGTHS**2 / 2)
            found.append(Answers(right, lengths))
        return found

    def observe(self, X: Array, share: float = 1.0, repeat: int = 0) -> Observation:
        """Evaluate layer points X [n x 38] on a share of the questions; `repeat` draws other own parts."""
        answers = self.answers(X, share, repeat)
        values = self._values(X, answers)
        Y = sum(columns.mean(axis=2).T for columns in values)
        told = sum(_told(each, scales) for each, scales in zip(answers, _scales(), strict=True))
        told = told if self.noise else np.zeros_like(told)
        tokens = np.sum([each.tokens.sum(axis=1) for each in answers], axis=0)
        jitter = np.array([_jitter(self.seed, repeat, x) for x in X])
        return Observation(np.asarray(Y), np.asarray(told), (SECONDS + tokens / SPEED) * jitter, tokens)

    def terms(self, x: Array, share: float = 1.0) -> dict[str, Array]:
        """What each question adds to the objectives of point x [38], of each benchmark [questions x 2].

        Objectives are the sums over benchmarks of the means; see `bambo.search.staging`.
        """
        columns = self._values(x[None], self.answers(x[None], share))
        return {name: own[:, 0].T for name, own in zip(BENCHMARKS, columns, strict=True)}

    def _values(self, X: Array, answers: Sequence[Answers]) -> list[Array]:
        """For each benchmark, what every question adds to the objectives at this noise [2 x n x questions]."""
        truth = zip(self.accuracy(X).T, self.tokens(X).T, strict=True)
        found = []
        for b, (each, means, scales) in enumerate(zip(answers, truth, _scales(), strict=True)):
            columns = [
                (mean[:, None] + sqrt(self.noise) * (raw - mean[:, None]) - base) * scale
                for mean, raw, base, scale in zip(means, each, _bases()[b], scales, strict=True)
            ]
            found.append(np.stack(columns))
        return found


@dataclass(frozen=True)
class Problem:
    """A landscape as a search sees it: points of D variables, each shared by the groups of tensors in `parts`."""

    landscape: Landscape
    parts: tuple[range, ...]

    @property
    def dimension(self) -> int:
        return len(self.parts)

    @property
    def importance(self) -> Array:
        """Estimated importance of each variable [D]: the mean over its groups."""
        return np.array([self.landscape.importance[list(part)].mean() for part in self.parts])

    def layers(self, X: Array) -> Array:
        """The layer points [n x 38] of points [n x D]."""
        return np.repeat(np.asarray(X, dtype=float), [len(part) for part in self.parts], axis=1)

    def true(self, X: Array) -> Array:
        return self.landscape.true(self.layers(X))

    def observe(self, X: Array, share: float = 1.0, repeat: int = 0) -> Observation:
        return self.landscape.observe(self.layers(X), share, repeat)

    def terms(self, x: Array, share: float = 1.0) -> dict[str, Array]:
        return self.landscape.terms(self.layers(x[None])[0], share)


def layerwise(landscape: Landscape) -> Problem:
    """Each group of tensors a variable: D = 38."""
    return Problem(landscape, tuple(range(group, group + 1) for group in range(GROUPS)))


def blockwise(landscape: Landscape, n_blocks: int = 6, strategy: str = "hybrid") -> Problem:
    """Embeddings, blocks of layers by their differences, head: D = n_blocks + 2."""
    cut = blocks(landscape.differences[1:-1], n_blocks, strategy)
    inner = [range(block.start + 1, block.stop + 1) for block in cut]
    return Problem(landscape, (range(1), *inner, range(GROUPS - 1, GROUPS)))


def normalised(accuracy: Array, tokens: Array) -> Array:
    """Objectives [n x 2] of raw scores, each [n x benchmarks]: 0 at the base, 1 at the expert."""
    bases, scales = np.array(_bases()), np.array(_scales())
    raw = np.stack([accuracy, tokens], axis=2)
    return np.asarray(((raw - bases) * scales).sum(axis=1))


def questions_asked(share: float) -> list[int]:
    """How many of each benchmark's questions a share is, at least two."""
    return [min(n, max(2, round(share * n))) for n in QUESTIONS]


def _bases() -> list[tuple[float, float]]:
    """Accuracy and tokens where the objectives are 0, of each benchmark."""
    return list(zip(ACCURACY[0], TOKENS[1], strict=True))


def _scales() -> list[tuple[float, float]]:
    """What one right answer and one token are worth in the objectives, of each benchmark."""
    spans = zip(ACCURACY[1] - ACCURACY[0], TOKENS[0] - TOKENS[1], strict=True)
    return [(1 / (len(QUESTIONS) * right), 1 / (len(QUESTIONS) * tokens)) for right, tokens in spans]


def _told(answers: Answers, scales: tuple[float, float]) -> Array:
    """Variance of the objectives [n x 2] as `bambo.objectives` reckons it from one answer a question."""
    n = answers.right.shape[1]
    p = (answers.right.sum(axis=1) + 1) / (n + 2)
    variance = np.stack([p * (1 - p) / n, answers.tokens.var(axis=1, ddof=1) / n], axis=1)
    return np.asarray(NOISE_SHARE * variance * np.square(scales))


def _saturated(s: Array) -> Array:
    return np.asarray(np.expm1(-SATURATION * s) / np.expm1(-SATURATION))


def _field(generator: np.random.Generator) -> Array:
    """A smooth Gaussian field over the groups [38], variance 1, correlation exp(-distance / 4); ends are their own."""
    keep = np.exp(-0.25)
    values = generator.standard_normal(GROUPS)
    for layer in range(2, GROUPS - 1):
        values[layer] = keep * values[layer - 1] + sqrt(1 - keep**2) * values[layer]
    return values


def _white(generator: np.random.Generator) -> Array:
    return generator.standard_normal(GROUPS)


def _shares(values: Array) -> Array:
    return np.asarray(values / values.sum(axis=-1, keepdims=True))


def _squashed(values: Array) -> Array:
    """Robust squash of AP-BMM, cut to [.05, 1]."""
    median = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - median))
    return np.clip(expit((values - median) / spread), 0.05, 1.0)


def _key(seed: int, repeat: int, x: Array) -> int:
    """A number that a layer point, rounded as candidates are, has in this landscape."""
    text = f"{VERSION} {seed} {repeat} ".encode() + (np.round(x, 6) + 0.0).tobytes()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def _jitter(seed: int, repeat: int, x: Array) -> float:
    return float(np.random.default_rng([1, _key(seed, repeat, x)]).lognormal(-(JITTER**2) / 2, JITTER))
