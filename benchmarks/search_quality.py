"""Every search on simulated landscapes of merged models and on test functions: what it returns for equal budgets.

    python benchmarks/search_quality.py [--seeds 16] [--presets ap-bmm layer-wise] [--groups main] [--hours 2] [--tune]

The whole benchmark takes days of CPU time; the most telling runs come first, and started again it goes on where it was.
Runs are appended to results/benchmarks/search/runs.jsonl, one record a run, keyed by its parameters and by a hash of
the settings that decide its proposals: rows of other settings are left out. A change of an optimiser's code does not
show in that hash: delete its rows, there and in docs/search-benchmark.jsonl, a copy of what the page shows.
Seeds 0-15 are for choosing defaults (--tune), 100-115 for reporting.
Writes docs/search-benchmark.md with its figures; --report does that alone.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

os.environ.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0", OPENBLAS_NUM_THREADS="1")

import search_page
from bambo.files import write_text
from bambo.search.presets import PRESETS
from search_problems import FUNCTIONS
from search_report import SEARCHES
from search_runs import Cell, run

RUNS = Path("results/benchmarks/search/runs.jsonl")
PUBLISHED = Path("docs/search-benchmark.jsonl")  # those of the page, so that any clone goes on from them
TUNED, REPORTED = 0, 100  # first seeds
WIDE = {8: ("bambo-robust", "bambo"), 38: ("layer-wise", "ap-bmm", "qnehvi")}  # at 16 workers, too
BLOCKS = (4, 6, 8, 12, 16)
STRATEGIES = ("hybrid", "variance", "balance", "uniform")
# (preset, D, noise, share of the questions that is asked first, probability at which a point is left).
STAGED = (
    ("bambo-robust", 8, 0.25, 0.25, 0.9),
    ("bambo-robust", 8, 0.25, 0.25, 0.75),
    ("bambo-robust", 8, 0.25, 0.5, 0.9),
    ("layer-wise", 38, 0.25, 0.25, 0.9),
    ("bambo-robust", 8, 1.0, 0.25, 0.9),
)
# All questions at once. A record has the tokens of its whole run, so that a longer one does not tell what is needed.
UNSTAGED = tuple(
    dict.fromkeys(Cell(preset, dimension, 0, noise=noise) for preset, dimension, noise, *_ in STAGED)
)
# What was tried for defaults.
_NO_RERANKING = (("gap_reward", 0.0), ("proximity_penalty", 0.0))
_NO_PRIOR = (("lengthscale_prior", "dimension-scaled"),)
_MATERN, _MEAN = (("kernel", "matern52"),), (("mean_input", True),)
TRIALS = (
    *(Cell("layer-wise", 38, 0, changes=changes) for changes in ((), _MATERN, _MEAN, (*_MATERN, *_MEAN))),
    *(Cell("bambo-robust", 8, 0, changes=changes) for changes in ((), _MATERN, _MEAN, (*_MATERN, *_MEAN))),
    *(
        Cell("ap-bmm", 38, 0, changes=changes)
        for changes in (
            (),
            _NO_RERANKING,
            _NO_PRIOR,
            (*_NO_PRIOR, *_NO_RERANKING),
            _MATERN,
            _MEAN,
            (*_MATERN, *_MEAN),
        )
    ),
    *(Cell("ap-bmm", 38, 0, constants=(("STRENGTH", strength),)) for strength in (0.5, 2.0)),
)


def groups(tune: bool) -> dict[str, list[Cell]]:
    """Cells by their question, all of the seed 0, to be run with others."""
    if tune:
        return {"tune": list(TRIALS)}
    names = dict.fromkeys(
        preset for presets in zip_longest(*SEARCHES.values()) for preset in presets if preset
    )
    main = [
        Cell(preset, dimension, 0)
        for preset in names
        for dimension, presets in SEARCHES.items()
        if preset in presets
    ]
    ablation = [Cell("bambo-robust", blocks + 2, 0) for blocks in BLOCKS]
    ablation += [Cell("bambo-robust", 8, 0, strategy=strategy) for strategy in STRATEGIES]
    ablation = [*dict.fromkeys(ablation)]
    wide = [
        Cell(preset, dimension, 0, workers=16) for dimension, presets in WIDE.items() for preset in presets
    ]
    return {
        "main": main,
        "longer": [replace(cell, budget=88) for cell in main],
        "ablation": ablation,
        "ablation-longer": [replace(cell, budget=88) for cell in ablation],
        "noise": [replace(cell, noise=noise) for noise in (1.0, 0.0) for cell in main],
        "staged": [
            *UNSTAGED,
            *(
                Cell(preset, dimension, 0, noise=noise, first_share=share, changes=(("leave", leave),))
                for preset, dimension, noise, share, leave in STAGED
            ),
        ],
        "workers": [replace(cell, budget=88) for cell in wide],
        "full": [Cell("bambo-robust", 8, 0, full=True), Cell("layer-wise", 38, 0, full=True)],
        "functions": [replace(cell, problem=name, noise=0.0) for name in FUNCTIONS for cell in main],
    }


# (group, seeds from, seeds to): the order of work.
ORDER = [
    ("tune", 0, 16),
    ("main", 0, 4),
    ("main", 4, 8),
    ("longer", 0, 4),
    ("staged", 0, 8),
    ("ablation", 0, 4),
    ("noise", 0, 2),
    ("workers", 0, 2),
    ("full", 0, 4),
    ("functions", 0, 2),
    ("main", 8, 16),
    ("longer", 4, 16),
    ("noise", 2, 16),
    ("staged", 8, 16),
    ("ablation", 4, 16),
    ("ablation-longer", 0, 16),
    ("workers", 2, 16),
    ("functions", 2, 16),
]


def plan(seeds: int, presets: Iterable[str], names: Iterable[str], tune: bool) -> Iterator[Cell]:
    """Cells in the order of their importance, seed by seed; those of presets that exist."""
    known, first = groups(tune), TUNED if tune else REPORTED
    for name, start, stop in ORDER:
        if name not in known or (names and name not in names):
            continue
        for seed in range(start, min(stop, seeds)):
            for cell in known[name]:
                if cell.preset in PRESETS and (not presets or cell.preset in presets):
                    yield replace(cell, seed=first + seed)


def read_runs() -> list[dict[str, Any]]:
    """Records of finished runs, published and own; a line that was cut short is left out."""
    found = []
    for line in "\n".join(path.read_text() for path in (PUBLISHED, RUNS) if path.exists()).splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def cell_of(record: dict[str, Any]) -> Cell:
    names = {name: record[name] for name in Cell.__dataclass_fields__ if name in record}
    pairs = {name: tuple(map(tuple, record.get(name, ()))) for name in ("changes", "constants")}
    return Cell(**{**names, **pairs})


def current(records: Iterable[dict[str, Any]]) -> dict[Cell, dict[str, Any]]:
    """Records of today's settings, by cell; the last one of each."""
    versions: dict[Cell, str] = {}
    found = {}
    for record in records:
        cell = cell_of(record)
        key = replace(cell, seed=0)
        if cell.preset not in PRESETS:
            continue
        if key not in versions:
            versions[key] = key.version()
        if record["version"] == versions[key]:
            found[cell] = record
    return found


def is_done(cell: Cell, done: Iterable[Cell]) -> bool:
    """Whether a run told what this one would: a longer one does, but for the grid and what stages are compared with."""
    alone = cell.preset == "model-grid" or replace(cell, seed=0) in UNSTAGED
    telling = {cell} if alone else {cell, replace(cell, budget=88)}
    return not telling.isdisjoint(done)


def missing(cells: Iterable[Cell]) -> list[Cell]:
    """Cells of which no run tells yet, each once."""
    done = set(current(read_runs()))
    return [cell for cell in dict.fromkeys(cells) if not is_done(cell, done)]


def work(cells: Iterable[Cell], jobs: int, until: float) -> None:
    """Run cells in processes of their own until the time is up, and append what they return."""
    RUNS.parent.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    waiting = iter(missing(cells))
    running: dict[Future[dict[str, Any]], Cell] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool, open(RUNS, "a") as file:
        _end_line(file)
        while True:
            while len(running) < jobs and time.time() < until and (cell := next(waiting, None)):
                running[pool.submit(run, cell)] = cell
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                if error := future.exception():
                    print(f"failed: {cell}: {error}", flush=True)
                    continue
                record = {**future.result(), "commit": commit}
                file.write(json.dumps(record) + "\n")
                file.flush()
                print(line(record), flush=True)


def _end_line(file: IO[str]) -> None:
    """A record that was cut short spoils no other."""
    if file.tell() and not RUNS.read_text().endswith("\n"):
        file.write("\n")


def line(record: dict[str, Any]) -> str:
    last = record["looks"][-1]
    changes = " ".join(f"{name}={value}" for name, value in [*record["changes"], *record["constants"]])
    return (
        f"{record['problem']} D={record['dimension']} noise={record['noise']} {record['preset']} "
        f"{changes} seed={record['seed']} n={last['n']} workers={record['workers']}: simulated "
        f"hypervolume {last['observed']:.3f} observed, {last['posterior']:.3f} posterior"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--presets", nargs="*", default=[])
    parser.add_argument("--groups", nargs="*", default=[])
    parser.add_argument("--hours", type=float, default=1e6)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tune", action="store_true", help="seeds 0-15, variants of defaults")
    parser.add_argument("--report", action="store_true", help="only write the report anew")
    given = parser.parse_args()
    if not given.report:
        cells = plan(given.seeds, given.presets, given.groups, given.tune)
        work(cells, given.jobs, time.time() + 3600 * given.hours)
    records = current(read_runs())
    print(search_page.write(records))
    lines = [json.dumps(records[cell]) for cell in sorted(records, key=lambda cell: json.dumps(vars(cell)))]
    write_text(PUBLISHED, "".join(f"{each}\n" for each in lines))


if __name__ == "__main__":
    main()
