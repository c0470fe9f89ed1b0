"""Block-wise search against grids of single weights, strategies and numbers of blocks, on the embedded pair.

Every search has the same budget, three seeds, the same evaluations and the same way to choose its front (by posterior
mean, at most 8 members). What is reported is the hypervolume of that front on fresh questions, which no search saw.
The parts are the workflow's own, called in warm processes: 1000 jobs would spend most of their time importing.

    python benchmarks/demo_search.py [--seeds 3] [--jobs 2]

Takes about three quarters of an hour on two cores; started again it goes on where it was.
Writes results/benchmarks/demo_search.{csv,md}.
"""

import argparse
import fcntl
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0", TQDM_DISABLE="1")

import numpy as np
import pandas as pd
import yaml
from bambo.checkpoint import open_checkpoint
from bambo.config import Config, deciding, load, search_settings, settings_hash
from bambo.endpoints import write_end_points
from bambo.files import atomic, read_json, write_json, write_text
from bambo.objectives import evaluate as objectives_of
from bambo.objectives import normalisation
from bambo.pareto import hypervolume
from bambo.partition import layer_differences
from bambo.records import read_record, write_record
from bambo.report import fronts, tables
from bambo.run import Merge, Run
from bambo.search.ledger import propose
from bambo.search.proposals import iteration_key, proposal_path
from bambo.sources import describe
from bambo.space import parts, variables

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
RUN, FRESH = "bench-demo", "bench-demo-fresh"
RESAMPLES = 400

logging.getLogger("lm_eval").setLevel(logging.ERROR)


def configuration(run: str, seeds: int) -> dict[str, Any]:
    """The demo's config with the searches of this benchmark; fresh questions for the run FRESH."""
    demo: dict[str, Any] = yaml.safe_load(Path("config/config.yaml").read_text())
    searches: dict[str, Any] = {
        f"{slug(name)}-{seed}": {
            **variant,
            "seed": seed,
            "n_initial": INITIAL,
            "iterations": ITERATIONS,
            "batch_size": BATCH,
        }
        for name, variant in VARIANTS.items()
        for seed in range(seeds)
    }
    for name, weights in GRIDS.items():
        searches[slug(name)] = {"preset": "model-grid", "weights": [round(float(w), 6) for w in weights]}
    if run == FRESH:
        for task in demo["evaluation"]["tasks"].values():
            path = Path(task["data"])
            task["data"] = str(path.with_stem(f"{path.stem}_fresh"))
    return demo | {"run": run, "searches": searches}


def slug(name: str) -> str:
    return "-".join(name.replace(",", "").split())


def prepare(given: dict[str, Any]) -> None:
    """Sources, variables, end points and normalisation of a run, as the workflow's rules make them."""
    config = load(given)
    folder = config.folder
    for name, source in config.sources.items():
        write_json(folder / "sources" / f"{name}.json", describe(source.model, source.revision))
    differences = layer_differences([open_checkpoint(source.model) for source in config.sources.values()])
    for search in config.searches:
        settings = search_settings(config, search)
        found = parts(
            differences, settings["n_blocks"], settings["strategy"], config.blocks.norm, settings["fold"]
        )
        found = variables(found, list(config.sources), settings)
        write_json(folder / "search" / search / "variables.json", {"variables": found})
    run = Run.open(config)
    ends = write_end_points(run)
    write_json(folder / "endpoints" / "candidates.json", ends)
    for id in {*ends["end_points"].values(), *ends["own_files"].values()}:
        score(config, run, id)
    objectives = {name: objective.model_dump() for name, objective in config.objectives.items()}
    scale = normalisation(objectives, {name: run.scores(id) for name, id in ends["end_points"].items()})
    write_json(folder / "endpoints" / "normalisation.json", scale)


def score(config: Config, run: Run, id: str) -> None:
    """Merge and evaluate a candidate unless that is done."""
    from bambo.evaluation import evaluate, load_engine
    from bambo.evaluation.engine import Machine
    from bambo.merging import merge

    folder = run.folder / "candidates" / id
    with open(folder / ".lock", "w") as lock, tempfile.TemporaryDirectory() as scratch:
        fcntl.flock(lock, fcntl.LOCK_EX)  # searches share candidates
        if not (folder / "scores.json").exists():
            recipe = read_json(folder / "recipe.json")
            merge(recipe, Path(scratch) / "model", threads=1)
            machine = Machine(batch_size=config.evaluation.batch_size)
            engine = load_engine(recipe["evaluation"], Path(scratch) / "model", machine)
            evaluate(recipe, engine, folder, machine=machine)


def search(given: dict[str, Any], name: str) -> str:
    """One whole search, in this process."""
    import torch

    torch.set_num_threads(1)
    config = load(given)
    run = Run.open(config)
    settings = search_settings(config, name)
    for iteration in range(settings["iterations"] + 1):
        key = iteration_key(iteration)
        path = proposal_path(run.folder, name, key)
        if not path.exists():
            proposal = propose(
                run,
                name,
                key,
                settings=settings,
                settings_hash=settings_hash(deciding(config, name)),
                variables=read_json(run.folder / "search" / name / "variables.json")["variables"],
                normalisation=read_json(run.folder / "endpoints" / "normalisation.json"),
                reference=config.reference_point,
            )
            write_record(path, "proposal", proposal)
        for id in read_record(path, "proposal")["candidates"]:
            score(config, run, id)
    return name


def rescore(given: dict[str, Any], recipe: dict[str, Any]) -> str:
    """The same merge on the fresh questions; returns its id there."""
    config = load(given)
    run = Run.open(config)
    id = run.add(run.recipe(Merge(recipe["weights"])))
    score(config, run, id)
    return id


def fresh_hypervolume(run: Run, ids: list[str], config: Config) -> tuple[float, float]:
    """Hypervolume of a front on the fresh questions, and its standard error by resampling questions in pairs."""
    scale = read_json(run.folder / "endpoints" / "normalisation.json")
    value = hypervolume(objectives_of(map(run.scores, ids), scale).Y, config.reference_point)
    generator = np.random.default_rng(0)
    resampled = [
        hypervolume(Y, config.reference_point) for Y in resampled_objectives(run, ids, scale, generator)
    ]
    return value, float(np.std(resampled, ddof=1))


def resampled_objectives(
    run: Run, ids: list[str], scale: dict[str, Any], generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Objectives [n x m] of the front with questions drawn anew, the same for every model and both end points."""
    ends = read_json(run.folder / "endpoints" / "candidates.json")["end_points"]
    columns = {"accuracy": "correct", "tokens": "output_tokens"}
    answers = {
        id: pd.read_parquet(run.folder / "candidates" / id / "samples.parquet")
        for id in {*ids, *ends.values()}
    }
    values = {
        (id, benchmark, metric): rows.loc[rows["benchmark"] == benchmark, column].to_numpy(float)
        for id, rows in answers.items()
        for benchmark in rows["benchmark"].unique()
        for metric, column in columns.items()
    }
    sizes = {benchmark: len(rows) for (_, benchmark, _), rows in values.items()}
    for _ in range(RESAMPLES):
        drawn = {benchmark: generator.integers(size, size=size) for benchmark, size in sizes.items()}

        def mean(id: str, benchmark: str, metric: str, drawn: dict[str, Any] = drawn) -> float:
            return float(values[id, benchmark, metric][drawn[benchmark]].mean())

        Y = np.empty((len(ids), len(scale["objectives"])))
        for k, spec in enumerate(scale["objectives"].values()):
            for row, id in enumerate(ids):
                parts = []
                for benchmark in spec["benchmarks"]:
                    base = mean(ends[spec["base"]], benchmark, spec["metric"])
                    expert = mean(ends[spec["expert"]], benchmark, spec["metric"])
                    parts.append((mean(id, benchmark, spec["metric"]) - base) / (expert - base))
                Y[row, k] = np.mean(parts)
        yield Y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    given, fresh_given = configuration(RUN, arguments.seeds), configuration(FRESH, arguments.seeds)
    config, fresh_config = load(given), load(fresh_given)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=spawn) as pool:
        list(pool.map(prepare, [given, fresh_given]))
        names = list(config.searches)
        for count, name in enumerate(pool.map(search, [given] * len(names), names), start=1):
            print(f"{count} of {len(names)} searches: {name}", flush=True)

        run = tables.read_run(
            config.folder,
            {
                name: read_json(config.folder / "search" / name / "variables.json")["variables"]
                for name in names
            },
        )
        observations = tables.observations(run)
        settings = {name: search_settings(config, name) for name in names}
        found = fronts.pareto(run, observations, settings, config.reference_point)
        found = found[(found["front"] == "posterior") & (found["search"] != tables.ALL)]
        observed = (
            fronts.hypervolume(observations, config.reference_point).groupby("search")["hypervolume"].max()
        )

        members = sorted(found["candidate"].unique())
        recipes = [read_json(config.folder / "candidates" / id / "recipe.json") for id in members]
        fresh_ids = dict(zip(members, pool.map(rescore, [fresh_given] * len(recipes), recipes), strict=True))

    fresh_run = Run.open(fresh_config)
    rows = []
    for name in names:
        front = found[found["search"] == name]
        value, error = fresh_hypervolume(fresh_run, [fresh_ids[id] for id in front["candidate"]], config)
        rows.append(
            {
                "search": name,
                "variables": len(run.variables[name]),
                "evaluations": settings[name]["n_initial"]
                + settings[name]["iterations"] * settings[name]["batch_size"],
                "front size": len(front),
                "observed": observed[name],
                "fresh": value,
                "fresh standard error": error,
            }
        )
    report(pd.DataFrame(rows))


def report(table: pd.DataFrame) -> None:
    """Print and write the table: one row a variant, means over the seeds with their spread."""
    folder = Path("results/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "demo_search.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    lines = [
        "| search | variables | evaluations | seeds | hypervolume, fresh questions | spread over seeds (sd) "
        "| standard error (questions) | hypervolume observed in the search |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in [*GRIDS, *VARIANTS]:
        rows = table[
            table["search"].str.replace(r"-\d+$", "", regex=True).isin([slug(name)])
            | (table["search"] == slug(name))
        ]
        spread = f"{rows['fresh'].std(ddof=1):.4f}" if len(rows) > 1 else "-"
        lines.append(
            f"| {name} | {rows['variables'].iloc[0]} | {rows['evaluations'].iloc[0]} | {len(rows)} "
            f"| {rows['fresh'].mean():.4f} | {spread} | {rows['fresh standard error'].mean():.4f} "
            f"| {rows['observed'].mean():.4f} |"
        )
    text = "\n".join(lines) + "\n"
    write_text(folder / "demo_search.md", text)
    print(text)


if __name__ == "__main__":
    main()
