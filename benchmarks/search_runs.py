"""One run of the search benchmark: a search on a simulated problem, its evaluations on a simulated clock.

A cell says what is run; `run` gives its record. Everything is decided by the cell: the same one gives the same record
but for CPU seconds, and for a search's last digits on another machine.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from bambo.config import settings_hash
from bambo.objectives import Evaluation
from bambo.pareto import hypervolume, non_dominated
from bambo.search import Search, surrogate
from bambo.search.presets import NEUTRAL
from bambo.search.staging import Terms, judge
from landscape import REFERENCE, SECONDS, VERSION, Array
from search_problems import LANDSCAPE, Merges, Simulated, problem

# Cheaper than the presets' own 128 samples, 10 restarts and 512 raw points; the report shows how little that costs.
CHEAP = {"mc_samples": 64, "restarts": 4, "raw_samples": 128}
LOOKS = (16, 24, 32, 48, 64, 88)  # evaluations after which the returned sets are looked at: each takes a fit
# What decides no proposal here: the schedule's budget is the cell's, and nothing is merged.
IDLE = ("iterations", "batch_size", "evaluations", "slots", "stop", "seed", "weights", "fold", "sparsity")


@dataclass(frozen=True)
class Cell:
    """What is run: a problem, a search and its budget.

    full: with the presets' own costly acquisition settings; first_share: of the questions, after which a point is
    promoted or left, as the setting `leave` has it; of landscapes alone.
    """

    preset: str
    dimension: int
    seed: int
    budget: int = 48
    problem: str = LANDSCAPE
    noise: float = 0.25
    workers: int = 4
    strategy: str = "hybrid"
    full: bool = False
    first_share: float | None = None
    changes: tuple[tuple[str, Any], ...] = ()  # of the preset's settings
    constants: tuple[tuple[str, float], ...] = ()  # of the surrogate, which no setting sets

    def search(self, importance: Array | None) -> Search:
        changes = dict(self.changes) | ({} if self.full else CHEAP)
        if self.preset == "model-grid":
            changes["weights"] = grid(self.budget)
        return Search(
            self.preset, self.dimension, self.seed, reference=REFERENCE, importance=importance, **changes
        )

    def version(self) -> str:
        """Hash of the settings that decide proposals, and of the landscapes: rows of another one are stale."""
        settings = self.search(np.ones(self.dimension)).settings
        told = {
            key: value
            for key, value in settings.items()
            if key not in IDLE and not (key in NEUTRAL and value == NEUTRAL[key])
        }
        return settings_hash({"settings": told, "landscape": VERSION})


def grid(n: int) -> list[float]:
    """As many equidistant weights, the end points first, then always one in the middle of a widest gap."""
    order = [n - 1, 0]
    gaps = [(-(n - 1), 0, n - 1)]
    while gaps:
        _, low, high = heappop(gaps)
        middle = (low + high) // 2
        if middle != low:
            order.append(middle)
            for gap in ((low, middle), (middle, high)):
                heappush(gaps, (gap[0] - gap[1], *gap))
    return [round(place / (n - 1), 6) for place in order]


class Finished(NamedTuple):
    """An evaluation that has ended: when, its point, what was observed; whether all questions were asked."""

    clock: float
    x: Array
    y: Array
    told: Array
    whole: bool = True


def run(cell: Cell) -> dict[str, Any]:
    """The record of a run: what it returned after every few evaluations, and what it cost; JSON-able."""
    torch.set_num_threads(1)
    with ExitStack() as stack:
        for name, value in cell.constants:
            stack.enter_context(patch.object(surrogate, name, value))
        return _record(cell)


def _record(cell: Cell) -> dict[str, Any]:
    task = problem(cell.problem, cell.dimension, cell.seed, cell.noise, cell.strategy)
    clock = Clock(task, cell)
    looks: list[dict[str, float]] = []
    ended: list[Finished] = []
    for n, finished in enumerate(clock.evaluations(), start=1):
        clock.search.tell(finished.x[None], finished.y[None], finished.told[None])
        ended.append(finished)
        if n in LOOKS or n == cell.budget:
            values = returned(task, clock.search.settings, ended)
            looks.append({"n": n, **values, "clock": round(finished.clock, 1)})
    return {
        **asdict(cell),
        "version": cell.version(),
        "looks": looks,
        "cpu_per_proposal": round(clock.cpu / max(clock.proposed, 1), 4),
        "utilisation": round(clock.busy / (cell.workers * looks[-1]["clock"]), 4),
        "tokens": round(clock.tokens),
        "left": sum(not each.whole for each in ended),
    }


def returned(task: Simulated, settings: Mapping[str, Any], ended: Sequence[Finished]) -> dict[str, float]:
    """Hypervolumes of the sets that a search would return: what was left after its first questions is no member."""
    X, Y, told = (np.array([getattr(each, name) for each in ended]) for name in ("x", "y", "told"))
    whole = np.array([each.whole for each in ended])
    single = settings["granularity"] == "model"
    inner = X[:, :1] if single else X
    *_, chosen = surrogate.posterior_front(
        inner[whole],
        Y[whole],
        told[whole],
        np.sqrt(told[whole]),
        settings,
        REFERENCE,
        importance=None if single else task.importance,
        further=(inner[~whole], Y[~whole], told[~whole]),
    )
    truth, observed = task.true(X[whole]), non_dominated(Y[whole])
    return {
        "observed": _value(task, truth[observed]),
        "posterior": _value(task, truth[chosen]),
        "claimed": _value(task, Y[whole][observed]),
    }


class Stage(NamedTuple):
    """An evaluation of the first questions, or of all: its point, what is observed, worker seconds and tokens."""

    x: Array
    y: Array
    told: Array
    seconds: float
    tokens: float
    whole: bool

    def ended(self, clock: float) -> Finished:
        return Finished(clock, self.x, self.y, self.told, self.whole)


class Clock:
    """A search and its workers, on a clock of the durations of evaluations alone: proposals take no time on it."""

    def __init__(self, task: Simulated, cell: Cell) -> None:
        self.task, self.cell = task, cell
        self.search = cell.search(task.importance)
        self.cpu, self.proposed = 0.0, 0  # CPU seconds of proposals, and of how many points
        self.busy, self.tokens = 0.0, 0.0  # worker seconds, generated tokens
        self._asked = 0
        # What first stages are compared with: the end points, as in a workflow, and all that has ended.
        ends = np.repeat([[0.0], [1.0]], cell.dimension, axis=1)
        self._wholes = [self._stage(x, None) for x in ends] if cell.first_share else []

    def evaluations(self) -> Iterator[Finished]:
        """Every evaluation as it finishes, by the schedule that the preset has."""
        asynchronous = self.search.settings["schedule"] == "async"
        return self._asynchronous() if asynchronous else self._synchronous()

    def _asynchronous(self) -> Iterator[Finished]:
        """A worker takes the next point as soon as it is free; with what is promoted it goes on at once."""
        running: list[tuple[float, int, Stage]] = []
        now, order = 0.0, count()
        while True:
            while len(running) < self.cell.workers and self._asked < self.cell.budget:
                for stage in self._begun(self._ask(1)):
                    heappush(running, (now + stage.seconds, next(order), stage))
            if not running:
                return
            now, _, stage = heappop(running)
            settled = self._settled(stage)
            if settled is None:
                rest = self._rest(stage)
                heappush(running, (now + rest.seconds, next(order), rest))
            else:
                yield settled.ended(now)

    def _synchronous(self) -> Iterator[Finished]:
        """The initial design, then batches of as many points as workers; each waits for all of the last one, and what
        a batch promotes for all of its first stages.
        """
        now = 0.0
        size = int(self.search.settings["n_initial"])
        while self._asked < self.cell.budget:
            stages, batch = self._begun(self._ask(size)), []
            while stages:
                free = [now] * self.cell.workers
                ends = []
                for stage in stages:
                    ends.append((free[0] + stage.seconds, stage))
                    heapreplace(free, ends[-1][0])
                now, stages = max(free), []
                for end, stage in sorted(ends, key=lambda each: not each[1].whole):  # to be compared with
                    settled = self._settled(stage)
                    if settled is None:
                        stages.append(self._rest(stage))
                    else:
                        batch.append(settled.ended(end))
            yield from sorted(batch, key=lambda finished: finished.clock)
            size = self.cell.workers

    def _ask(self, q: int) -> Array:
        q = min(q, self.cell.budget - self._asked)
        start = time.process_time()
        X = self.search.ask(q)
        if self._asked >= self.search.settings["n_initial"]:
            self.cpu += time.process_time() - start
            self.proposed += len(X)
        self._asked += len(X)
        return X

    def _begun(self, X: Array) -> list[Stage]:
        """The first stage of each point, or all of it: end points have no first stage."""
        ends = [x.tolist() in ([0.0] * len(x), [1.0] * len(x)) for x in X]
        share = self.cell.first_share
        return [self._worked(self._stage(x, None if end else share)) for x, end in zip(X, ends, strict=True)]

    def _rest(self, stage: Stage) -> Stage:
        """The questions that are missing; the model is merged and loaded again for them."""
        whole = self._stage(stage.x, None)
        seconds, tokens = whole.seconds - stage.seconds + SECONDS, whole.tokens - stage.tokens
        return self._worked(whole._replace(seconds=seconds, tokens=tokens))

    def _settled(self, stage: Stage) -> Stage | None:
        """What a stage that has ended tells the search; None where its point is promoted."""
        if self.cell.first_share is None:
            return stage
        if stage.whole:
            self._wholes.append(stage)
            return stage
        Y, told = (np.array([getattr(each, name) for each in self._wholes]) for name in ("y", "told"))
        found = judge(
            self._terms(stage), [*map(self._terms, self._wholes)], Evaluation(Y, np.sqrt(told), told)
        )
        promoted = found.probability < self.search.settings["leave"]
        return None if promoted else stage._replace(y=found.Y, told=found.variance)

    def _stage(self, x: Array, share: float | None) -> Stage:
        """share: of the questions, None for all."""
        found = self.task.observe(x[None]) if share is None else self._questions.observe(x[None], share)
        seconds, tokens = float(found.seconds[0]), float(found.tokens[0])
        return Stage(x, found.Y[0], found.told[0], seconds, tokens, share is None)

    def _worked(self, stage: Stage) -> Stage:
        self.busy += stage.seconds
        self.tokens += stage.tokens
        return stage

    def _terms(self, stage: Stage) -> Terms:
        return self._questions.terms(stage.x, (not stage.whole and self.cell.first_share) or 1.0)

    @property
    def _questions(self) -> Merges:
        """The task, as one that has questions."""
        assert isinstance(self.task, Merges), "first_share is of landscapes alone"
        return self.task


def _value(task: Simulated, Y: Array) -> float:
    """Hypervolume of a set, with the end points that every search knows."""
    return round(hypervolume(np.vstack([Y, task.ends]), REFERENCE), 6)
