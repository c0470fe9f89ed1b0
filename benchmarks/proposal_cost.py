"""CPU seconds of a proposal by the number of observations, variables, candidates and points under way; one thread.

    python benchmarks/proposal_cost.py [--repeats 3] [--output results/benchmarks]

Settings are those of the presets: 128 samples, 10 restarts, 512 raw points. Observations are of a smooth function, most
of them near its front, as in a search, with noise; each repeat is another draw. Takes about ten minutes.
Writes proposal_cost.csv and .md.
"""

import argparse
import os
import time
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0")

import numpy as np
import pandas as pd
import torch
from bambo.evaluation.devices import cpu_name
from bambo.files import atomic, write_text
from bambo.search import bayesian, surrogate
from bambo.search.design import sobol
from bambo.search.presets import PRESETS
from bambo.search.study import Study

REFERENCE = np.array([-0.1, -0.1])
SLOTS = 4  # of an asynchronous search: three candidates are under way when the fourth is proposed
# preset, variables, observations, candidates, under way
CASES = [
    *(("bambo-robust", 8, n, 1, 0) for n in (24, 88, 200, 400)),
    ("bambo-robust", 8, 88, 4, 0),
    *(("layer-wise", 38, n, 1, 0) for n in (24, 88, 200, 400)),
    ("layer-wise", 38, 88, 4, 0),
    *(("ap-bmm", 38, n, 1, SLOTS - 1) for n in (24, 88, 200, 400)),
    ("ap-bmm", 8, 88, 1, SLOTS - 1),
    ("ap-bmm", 38, 88, 4, 0),
    *(("ap-bmm, thompson", 38, n, 1, 63) for n in (88, 400)),
    ("bambo", 8, 88, 4, 0),
    ("ap-bmm-published", 38, 88, 1, SLOTS - 1),
]
COLUMNS = ("preset", "variables", "observations", "candidates", "under way")


def objectives(X: np.ndarray) -> np.ndarray:
    """Two objectives of [n x D] at odds: variables matter unequally, and one for accuracy more than for length."""
    share = np.exp(1.5 * np.sin(np.arange(X.shape[1])))
    other = share[::-1] / share.sum()
    progress = X @ (share / share.sum()) - 0.1 * np.square(np.diff(X, axis=1)).mean(axis=1)
    return np.stack([(1 - np.exp(-2 * progress)) / (1 - np.exp(-2)), 1 - (X @ other) ** 1.5], axis=1)


def study(dimension: int, n: int, pending: int, seed: int) -> Study:
    """What a search may know after n observations: Sobol points, then ones between them and the front."""
    rng = np.random.default_rng(seed)
    X = sobol(dimension, n + pending, seed)
    near = X[8:].mean(axis=1, keepdims=True) + 2 * (X[8:] - 0.5) * rng.random((len(X) - 8, 1))
    X[8:] = np.clip(near, 0, 1).round(6)
    truth = objectives(X)
    deviation = np.array([0.12, 0.03])
    Y = (truth + deviation * rng.standard_normal(truth.shape))[:n]
    importance = np.clip(np.exp(1.5 * np.sin(np.arange(dimension))) / np.e**1.5, 0.05, 1)
    return Study(
        X[:n], Y, np.tile(deviation**2, (n, 1)), asked=X, pending=X[n:], reference=REFERENCE,
        names=["reasoning", "efficiency"], importance=importance,
    )  # fmt: skip


def measure(case: tuple[str, int, int, int, int], seed: int) -> dict[str, Any]:
    """CPU seconds of one proposal, and of its parts."""
    preset, dimension, n, q, pending = case
    name, _, other = preset.partition(", ")
    settings = PRESETS[name]
    if other == "thompson":
        settings = settings | {"acquisition": other, "gap_reward": 0.0, "proximity_penalty": 0.0}
    known = study(dimension, n, pending, seed)
    start = time.process_time()
    bayesian.ask(known, q, settings, seed)
    whole = time.process_time() - start
    start = time.process_time()
    surrogate.fit(known.X, known.Y, known.variance, settings, known.importance, known.weights)
    return dict(zip(COLUMNS, case, strict=True)) | {
        "seed": seed,
        "fit": time.process_time() - start,
        "all": whole,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    measure(("bambo-robust", 3, 12, 1, 0), 0)  # what is imported at first use
    rows: list[dict[str, Any]] = []
    lines = [f"| {' | '.join([*COLUMNS, 'fit', 'all', 'largest'])} |", "|---" * 8 + "|"]
    print("\n".join(lines), flush=True)
    for case in CASES:
        own = [measure(case, seed) for seed in range(options.repeats)]
        fit, whole = (median(row[part] for row in own) for part in ("fit", "all"))
        numbers = f"{fit:.2f} | {whole:.2f} | {max(row['all'] for row in own):.2f}"
        lines.append(f"| {' | '.join(map(str, case))} | {numbers} |")
        print(lines[-1], flush=True)
        rows += own
    note = (
        f"CPU seconds of one thread, median and largest of {options.repeats}. {date.today()}, {cpu_name()}."
    )
    print(f"\n{note}")
    with atomic(options.output / "proposal_cost.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    write_text(options.output / "proposal_cost.md", "\n".join([*lines, "", note]) + "\n")


if __name__ == "__main__":
    main()
