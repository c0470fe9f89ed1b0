"""Asynchronous against synchronous: the same simulated search in real Snakemake runs, with evaluations that take time.

    python benchmarks/async_schedule.py [--seconds 100] [--seeds 8] [--output results/benchmarks]

Eight initial and 32 further evaluations on the embedded pair (8 variables) in 4 slots. Durations are log-normal, sigma
.8, drawn from the candidate alone; evaluations sleep that long. Both runs go on side by side, in a temporary folder,
each with 4 cores of its own to hand out. With a median of 100 seconds that is forty minutes, nearly all of it asleep.
Writes async_schedule.md.

Utilisation is the time of evaluations, end points left aside, over slots times the time from when the search can begin
until its last evaluation ends. Beside it stands what a schedule without any overhead reaches with the durations of the
same run: each candidate, in the order of proposals, begins in the slot that is free first; the synchronous one waits
for all of a batch.

Hypervolume at an equal count of evaluations, over several seeds, comes from the simulated landscapes of
search_quality.py without Snakemake, on a clock of the durations alone, which follow the tokens there.
"""

import argparse
import heapq
import os
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

import psutil
from bambo.files import read_json, write_text
from bambo.records import read_record
from bambo.search.proposals import in_order, read_proposals
from search_runs import Cell, run
from workflow_scale import Workflow

SLOTS, INITIAL, ITERATIONS, SIGMA = 4, 8, 8, 0.8
SCHEDULES = ("sync", "async")


def search(schedule: str) -> dict[str, Any]:
    own = {"n_initial": INITIAL, "iterations": ITERATIONS, "batch_size": SLOTS}
    return {schedule: {**own, "schedule": schedule}}


# ------------------------------------------------------------------------------------------------- real runs


@dataclass(frozen=True)
class Measured:
    """A run's evaluations, those of the end points left aside; all in seconds."""

    wall: float  # from the first proposal's start until the last evaluation's end
    durations: list[list[float]]  # of the candidates of each decision, in the order of decisions
    pauses: list[float]  # from the end of a slot's evaluation until the next one's start

    @property
    def work(self) -> float:
        return sum(map(sum, self.durations))

    @property
    def utilisation(self) -> float:
        return self.work / (SLOTS * self.wall)

    def without_overhead(self, barriers: bool) -> float:
        """Utilisation of a schedule of the same durations on which nothing else takes time."""
        return self.work / (SLOTS * makespan(self.durations, barriers))


def makespan(durations: Sequence[Sequence[float]], barriers: bool) -> float:
    """When the last evaluation ends, if each begins in the slot that is free first, after those before it."""
    free = [0.0] * SLOTS
    for batch in durations:
        if barriers:
            free = [max(free)] * SLOTS
        for seconds in batch:
            heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def measured(folder: Path, name: str) -> Measured:
    """From the files of a run that has ended."""
    ends = {*read_json(folder / "endpoints" / "candidates.json")["end_points"].values()}
    proposals = in_order(read_proposals(folder, name))
    asked = [[id for id in each["candidates"] if id not in ends] for each in proposals]
    scores = {id: folder / "candidates" / id / "scores.json" for batch in asked for id in batch}
    seconds = {id: read_record(path, "scores")["seconds"] for id, path in scores.items()}
    end = {id: path.stat().st_mtime for id, path in scores.items()}
    begin = (folder / "endpoints" / "normalisation.json").stat().st_mtime
    slots: dict[int, list[str]] = {}
    for each, batch in zip(proposals, asked, strict=True):
        slots.setdefault(each.get("slot", -1), []).extend(batch)
    pauses = [
        end[after] - seconds[after] - end[before]
        for slot, ids in slots.items()
        if slot >= 0
        for before, after in pairwise(ids)
    ]
    batches = [[seconds[id] for id in batch] for batch in asked if batch]
    return Measured(max(end.values()) - begin, batches, pauses)


def real(folder: Path, schedule: str, seconds: float) -> Measured:
    durations = {"seconds": seconds, "sigma": SIGMA}
    workflow = Workflow(folder / schedule, search(schedule), cores=SLOTS, simulated=durations)
    workflow.snakemake()
    return measured(workflow.results, schedule)


def hypervolumes(schedule: str, seeds: int) -> list[float]:
    """True hypervolume of the observed set at the end of the budget, for each seed."""
    budget = INITIAL + ITERATIONS * SLOTS
    changes = (("schedule", schedule),)
    cells = [Cell("bambo-robust", 8, seed, budget, workers=SLOTS, changes=changes) for seed in range(seeds)]
    return [run(cell)["looks"][-1]["observed"] for cell in cells]


def table(found: dict[str, Measured], values: dict[str, list[float]]) -> list[str]:
    rows: dict[str, list[str]] = {"": [f"{name} (simulated)" for name in found]}
    ideal = {name: each.without_overhead(name == "sync") for name, each in found.items()}
    runs = found.values()
    rows["evaluations, end points left aside"] = [str(sum(map(len, each.durations))) for each in runs]
    rows["mean duration of an evaluation (s)"] = [
        f"{each.work / sum(map(len, each.durations)):.0f}" for each in runs
    ]
    rows["wall-clock of the search (min)"] = [f"{each.wall / 60:.1f}" for each in runs]
    rows["utilisation"] = [f"{each.utilisation:.3f}" for each in runs]
    rows["utilisation without overhead"] = [f"{value:.3f}" for value in ideal.values()]
    rows["share of that"] = [f"{found[name].utilisation / value:.3f}" for name, value in ideal.items()]
    rows["end of an evaluation to start of the slot's next, median (s)"] = [
        f"{statistics.median(each.pauses):.1f}" if each.pauses else "-" for each in runs
    ]
    lines = ["| " + " | ".join([name, *cells]) + " |" for name, cells in rows.items()]
    lines.insert(1, "|---" * (len(found) + 1) + "|")
    differences = [two - one for one, two in zip(values["sync"], values["async"], strict=True)]
    error = statistics.stdev(differences) / sqrt(len(differences)) if len(differences) > 1 else float("nan")
    means = ", ".join(f"{name} {statistics.mean(own):.4f}" for name, own in values.items())
    lines += [
        "",
        f"True hypervolume after {INITIAL + ITERATIONS * SLOTS} evaluations (simulated, {len(differences)} seeds): "
        f"{means}; paired difference {statistics.mean(differences):+.4f}, standard error {error:.4f}.",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=100, help="median duration of an evaluation")
    parser.add_argument("--seeds", type=int, default=8, help="of the comparison of hypervolumes")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        going = {name: pool.submit(real, Path(folder), name, options.seconds) for name in SCHEDULES}
        found = {name: each.result() for name, each in going.items()}
    load = psutil.getloadavg()[2]
    values = {name: hypervolumes(name, options.seeds) for name in SCHEDULES}
    lines = table(found, values)
    lines += [
        "",
        f"All evaluations are simulated, log-normal durations, median {options.seconds:g} s, sigma {SIGMA}. "
        f"{date.today()}, both runs side by side on {os.cpu_count()} cores, load at their end {load:.1f}.",
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    write_text(options.output / "async_schedule.md", text)


if __name__ == "__main__":
    main()
