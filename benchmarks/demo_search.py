"""Block-wise search against grids of single weights, strategies and numbers of blocks, on the embedded pair.

Every search has the same budget, three seeds, the same evaluations and the same way to choose its front (by posterior
mean, at most 8 members). What is reported is the hypervolume of that front on fresh questions, which no search saw.
The parts are the workflow's own, called in warm processes: 1000 jobs would spend most of their time importing.

    python benchmarks/demo_search.py [--seeds 3] [--jobs 2]

Takes about three quarters of an hour on two cores; started again it goes on where it was.
Writes results/benchmarks/demo_search.{csv,md}.
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0", TQDM_DISABLE="1")

import numpy as np
import pandas as pd
import yaml
from bambo.files import atomic, write_text
from demo_runs import FOLDER, fresh_fronts

INITIAL, ITERATIONS, BATCH = 8, 6, 4
EVALUATIONS = INITIAL + ITERATIONS * BATCH
VARIANTS: dict[str, dict[str, Any]] = {
    "6 blocks, hybrid": {"n_blocks": 6, "strategy": "hybrid"},
    "6 blocks, variance": {"n_blocks": 6, "strategy": "variance"},
    "6 blocks, balance": {"n_blocks": 6, "strategy": "balance"},
    "6 blocks, uniform": {"n_blocks": 6, "strategy": "uniform"},
    "3 blocks, hybrid": {"n_blocks": 3, "strategy": "hybrid"},
    "4 blocks, hybrid": {"n_blocks": 4, "strategy": "hybrid"},
    "all layers": {"granularity": "layer"},
}
GRIDS = {
    "grid of 9 single weights": np.linspace(0.1, 0.9, 9),
    f"grid of {EVALUATIONS} single weights": np.linspace(0.0, 1.0, EVALUATIONS),
}


def configuration(seeds: int) -> dict[str, Any]:
    """The demo's config with the searches of this benchmark."""
    demo: dict[str, Any] = yaml.safe_load(Path("config/config.yaml").read_text())
    budget = {"n_initial": INITIAL, "iterations": ITERATIONS, "batch_size": BATCH}
    searches: dict[str, Any] = {
        slug(name): {**variant, **budget, "seeds": list(range(seeds))} for name, variant in VARIANTS.items()
    }
    for name, weights in GRIDS.items():
        searches[slug(name)] = {"preset": "model-grid", "weights": [round(float(w), 6) for w in weights]}
    return demo | {"run": "bench-demo", "searches": searches}


def slug(name: str) -> str:
    return "-".join(name.replace(",", "").split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    report(fresh_fronts(configuration(arguments.seeds), arguments.jobs))


def report(table: pd.DataFrame) -> None:
    """Print and write the table: one row a variant, means over the seeds with their spread."""
    with atomic(FOLDER / "demo_search.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    lines = [
        "| search | variables | evaluations | seeds | hypervolume, fresh questions | spread over seeds (sd) "
        "| standard error (questions) | hypervolume observed in the search |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in [*GRIDS, *VARIANTS]:
        rows = table[table["group"] == slug(name)]
        spread = f"{rows['fresh'].std(ddof=1):.4f}" if len(rows) > 1 else "-"
        lines.append(
            f"| {name} | {rows['variables'].iloc[0]} | {rows['evaluations'].iloc[0]} | {len(rows)} "
            f"| {rows['fresh'].mean():.4f} | {spread} | {rows['fresh_stderr'].mean():.4f} "
            f"| {rows['observed'].mean():.4f} |"
        )
    text = "\n".join(lines) + "\n"
    write_text(FOLDER / "demo_search.md", text)
    print(text)


if __name__ == "__main__":
    main()
