"""One run of the search benchmark: a search on a simulated problem, its evaluations on a simulated clock.

A cell says what is run; `run` gives its record. Everything is decided by the cell: the same one gives the same record
but for CPU seconds, and for a search's last digits on another machine.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from bambo.config import settings_hash
from bambo.pareto import hypervolume
from bambo.search import Search
from bambo.search.presets import NEUTRAL
from landscape import REFERENCE, VERSION, Array
from search_problems import LANDSCAPE, Simulated, problem

# Cheaper than the presets' own 128 samples, 10 restarts and 512 raw points; the report shows how little that costs.
CHEAP = {"mc_samples": 64, "restarts": 4, "raw_samples": 128}
LOOKS = (16, 24, 32, 48, 64, 88)  # evaluations after which the returned sets are looked at: each takes a fit
# What decides no proposal here: the schedule's budget is the cell's.
IDLE = ("iterations", "batch_size", "evaluations", "slots", "stop", "seed", "weights", "fold")


@dataclass(frozen=True)
class Cell:
    """What is run: a problem, a search and its budget. `full`: with the presets' own costly acquisition settings."""

    preset: str
    dimension: int
    seed: int
    budget: int = 48
    problem: str = LANDSCAPE
    noise: float = 0.25
    workers: int = 4
    strategy: str = "hybrid"
    full: bool = False
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


def grid(count: int) -> list[float]:
    """As many equidistant weights, the end points first, then always one in the middle of a widest gap."""
    order = [count - 1, 0]
    gaps = [(-(count - 1), 0, count - 1)]
    while gaps:
        _, low, high = heappop(gaps)
        middle = (low + high) // 2
        if middle != low:
            order.append(middle)
            for gap in ((low, middle), (middle, high)):
                heappush(gaps, (gap[0] - gap[1], *gap))
    return [round(place / (count - 1), 6) for place in order]


class Finished(NamedTuple):
    """An evaluation: when it finished, its point, what was observed."""

    clock: float
    x: Array
    y: Array
    told: Array


def run(cell: Cell) -> dict[str, Any]:
    """The record of a run: what it returned after every few evaluations, and what it cost; JSON-able."""
    import torch
    from bambo.search import surrogate

    torch.set_num_threads(1)
    with ExitStack() as stack:
        for name, value in cell.constants:
            stack.enter_context(patch.object(surrogate, name, value))
        return _record(cell)


def _record(cell: Cell) -> dict[str, Any]:
    task = problem(cell.problem, cell.dimension, cell.seed, cell.noise, cell.strategy)
    clock = Clock(task, cell)
    looks: list[dict[str, float]] = []
    truth: list[Array] = []
    for n, finished in enumerate(clock.evaluations(), start=1):
        clock.search.tell(finished.x[None], finished.y[None], finished.told[None])
        truth.append(task.true(finished.x[None])[0])
        if n in LOOKS or n == cell.budget:
            observed, chosen = clock.search.best()
            looks.append(
                {
                    "n": n,
                    "observed": _value(task, np.array(truth)[observed]),
                    "posterior": _value(task, np.array(truth)[chosen]),
                    "claimed": _value(task, clock.search.Y[observed]),
                    "clock": round(finished.clock, 1),
                }
            )
    return {
        **asdict(cell),
        "version": cell.version(),
        "looks": looks,
        "cpu_per_proposal": round(clock.cpu / max(clock.proposed, 1), 4),
        "utilisation": round(clock.busy / (cell.workers * looks[-1]["clock"]), 4),
        "tokens": round(clock.tokens),
    }


class Clock:
    """A search and its workers, on a clock of the durations of evaluations alone: proposals take no time on it."""

    def __init__(self, task: Simulated, cell: Cell) -> None:
        self.task, self.cell = task, cell
        self.search = cell.search(task.importance)
        self.cpu, self.proposed = 0.0, 0  # CPU seconds of proposals, and of how many points
        self.busy, self.tokens = 0.0, 0.0  # worker seconds, generated tokens
        self._asked = 0

    def evaluations(self) -> Iterator[Finished]:
        """Every evaluation as it finishes, by the schedule that the preset has."""
        asynchronous = self.search.settings["schedule"] == "async"
        return self._asynchronous() if asynchronous else self._synchronous()

    def _asynchronous(self) -> Iterator[Finished]:
        """A worker takes the next point as soon as it is free."""
        running: list[tuple[float, int, Finished]] = []
        now = 0.0
        while True:
            while len(running) < self.cell.workers and self._asked < self.cell.budget:
                for finished, seconds in self._evaluate(self._ask(1)):
                    finished = finished._replace(clock=now + seconds)
                    heappush(running, (finished.clock, self._asked, finished))
            if not running:
                return
            now, _, finished = heappop(running)
            yield finished

    def _synchronous(self) -> Iterator[Finished]:
        """The initial design, then batches of as many points as workers; each waits for all of the last one."""
        now = 0.0
        size = int(self.search.settings["n_initial"])
        while self._asked < self.cell.budget:
            free = [now] * self.cell.workers
            heapify(free)
            batch = []
            for finished, seconds in self._evaluate(self._ask(size)):
                end = heappop(free) + seconds
                heappush(free, end)
                batch.append(finished._replace(clock=end))
            yield from sorted(batch, key=lambda finished: finished.clock)
            now = max(free)
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

    def _evaluate(self, X: Array) -> Iterator[tuple[Finished, float]]:
        found = self.task.observe(X)
        self.busy += float(found.seconds.sum())
        self.tokens += float(found.tokens.sum())
        for x, y, told, seconds in zip(X, found.Y, found.told, found.seconds, strict=True):
            yield Finished(0.0, x, y, told), float(seconds)


def _value(task: Simulated, Y: Array) -> float:
    """Hypervolume of a set, with the end points that every search knows."""
    return round(hypervolume(np.vstack([Y, task.ends]), REFERENCE), 6)
