"""The searches of config/compare.yaml on the embedded pair, their fronts scored again on fresh questions.

Sources, importance, variables and end points are made by the workflow's own rules. The searches then run in warm
processes, with the workflow's own functions and files: a thousand jobs would spend most of their time importing.
Slots of asynchronous searches end in the order of made-up durations, lognormal with sd .8, from each candidate's id.

    python benchmarks/demo_compare.py [--jobs 2]

Takes an hour or so on two quiet cores; started again it goes on where it was. Writes
results/benchmarks/demo_compare.{csv,md,svg}.
"""

import argparse
import heapq
import multiprocessing
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0", TQDM_DISABLE="1")

import pandas as pd
import yaml
from bambo.config import Config, deciding, load, search_settings, settings_hash
from bambo.files import atomic, read_json, write_text
from bambo.records import read_record, write_record
from bambo.report import fronts, style, tables
from bambo.run import Run
from bambo.search.ledger import propose
from bambo.search.proposals import Place, proposal_path
from bambo.search.start import Coarser
from bambo.search.stopping import planned_evaluations, slots
from demo_search import fresh_hypervolume, rescore, score
from matplotlib.figure import Figure

CONFIG, FRESH = Path("config/compare.yaml"), Path("results/benchmarks/compare-fresh.yaml")
FOLDER = Path("results/benchmarks")
SIGMA = 0.8  # of the logarithm of a duration


def fresh_config() -> dict[str, Any]:
    """The same run on the fresh questions; of its searches only the end points are needed."""
    given: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    for task in given["evaluation"]["tasks"].values():
        path = Path(task["data"])
        task["data"] = str(path.with_stem(f"{path.stem}_fresh"))
    searches = {"grid": given["searches"]["grid"]}
    return {key: own for key, own in given.items() if key != "importance"} | {
        "run": f"{given['run']}-fresh",
        "searches": searches,
    }


def prepare(config: Path, run: str) -> None:
    """What the workflow makes before its searches."""
    targets = [f"results/{run}/partition/blocks.json", f"results/{run}/endpoints/normalisation.json"]
    command = [sys.executable, "-m", "snakemake", *targets, "--configfile", str(config), "--cores", "2"]
    subprocess.run(command, check=True)


def search(given: dict[str, Any], name: str) -> str:
    """One whole search, in this process."""
    import torch

    torch.set_num_threads(1)
    config = load(given)
    run, settings = Run.open(config), search_settings(config, name)
    ends = by_slots if settings["schedule"] == "async" else by_iterations
    for id in ends(config, run, name, settings):
        score(config, run, id)
    return name


def by_iterations(config: Config, run: Run, name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    for iteration in range(settings["iterations"] + 1):
        yield from decided(config, run, name, settings, Place(-1, iteration))["candidates"]


def by_slots(config: Config, run: Run, name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Candidates as their evaluations end: a slot goes on as soon as its own is scored."""
    waiting = [(0.0, slot, 0, "") for slot in range(min(slots(settings), planned_evaluations(settings)))]
    while waiting:
        clock, slot, step, ended = heapq.heappop(waiting)
        if ended:
            yield ended
        for id in decided(config, run, name, settings, Place(slot, step))["candidates"]:
            duration = random.Random(id).lognormvariate(0, SIGMA)
            heapq.heappush(waiting, (clock + duration, slot, step + 1, id))


def decided(config: Config, run: Run, name: str, settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """A proposal, made unless it is there."""
    path = proposal_path(run.folder, name, place.key)
    if not path.exists():
        coarser = settings["start_from"]
        proposal = propose(
            run,
            name,
            place.key,
            settings=settings,
            settings_hash=settings_hash(deciding(config, name)),
            variables=variables(run, name),
            normalisation=read_json(run.folder / "endpoints" / "normalisation.json"),
            reference=config.reference_point,
            coarser=coarser and Coarser(coarser, search_settings(config, coarser), variables(run, coarser)),
        )
        write_record(path, "proposal", proposal)
    return read_record(path, "proposal")


def variables(run: Run, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(run.folder / "search" / name / "variables.json")["variables"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    given, fresh_given = yaml.safe_load(CONFIG.read_text()), fresh_config()
    write_text(FRESH, yaml.safe_dump(fresh_given, sort_keys=False))
    prepare(CONFIG, given["run"])
    prepare(FRESH, fresh_given["run"])
    config, fresh = load(given), load(fresh_given)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=spawn) as pool:
        # Those that others start from come first.
        first = [name for name, own in config.searches.items() if own.start_from is None]
        for names in (first, [name for name in config.searches if name not in first]):
            for name in pool.map(search, [given] * len(names), names):
                print(f"{name}: done", flush=True)
        run = tables.read_run(
            config.folder, {name: variables(Run.open(config), name) for name in config.searches}
        )
        observations = tables.observations(run)
        settings = {name: search_settings(config, name) for name in config.searches}
        found = fronts.pareto(run, observations, settings, config.reference_point)
        found = found[(found["front"] == "posterior") & (found["search"] != tables.ALL)]
        volumes = fronts.hypervolume(observations, config.reference_point)
        members = sorted(found["candidate"].unique())
        recipes = [read_json(config.folder / "candidates" / id / "recipe.json") for id in members]
        fresh_ids = dict(zip(members, pool.map(rescore, [fresh_given] * len(recipes), recipes), strict=True))
    observed = volumes.groupby("search")[["hypervolume", "evaluations"]].max()
    rows = []
    for name in config.searches:
        front = found[found["search"] == name]
        ids = [fresh_ids[id] for id in front["candidate"]]
        value, error = fresh_hypervolume(Run.open(fresh), ids, config)
        rows.append(
            {
                "search": re.sub(r"-\d+$", "", name) if name not in given["searches"] else name,
                "seed": settings[name]["seed"],
                "evaluations": observed.loc[name, "evaluations"],
                "front size": len(front),
                "observed": observed.loc[name, "hypervolume"],
                "fresh": value,
                "fresh standard error": error,
            }
        )
    report(pd.DataFrame(rows))


def report(table: pd.DataFrame) -> None:
    """Print and write the table, means over the seeds with their spread; and draw it."""
    with atomic(FOLDER / "demo_compare.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    lines = [
        "| search | evaluations | seeds | hypervolume, fresh questions | sd over seeds | standard error (questions) "
        "| observed in the search |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in table.groupby("search", sort=False):
        spread = f"{rows['fresh'].std(ddof=1):.4f}" if len(rows) > 1 else "-"
        lines.append(
            f"| {name} | {rows['evaluations'].iloc[0]} | {len(rows)} | {rows['fresh'].mean():.4f} | {spread} "
            f"| {rows['fresh standard error'].mean():.4f} | {rows['observed'].mean():.4f} |"
        )
    text = "\n".join(lines) + "\n"
    write_text(FOLDER / "demo_compare.md", text)
    print(text)
    with atomic(FOLDER / "demo_compare.svg") as temporary:
        figure(table).savefig(temporary, format="svg")


@style.styled
def figure(table: pd.DataFrame) -> Figure:
    """Hypervolume of each search's front: on fresh questions, and as it was observed in the search."""
    drawn = style.new_figure(3.6)
    axes = drawn.subplots()
    names = list(dict.fromkeys(table["search"]))
    for place, name in enumerate(reversed(names)):
        rows = table[table["search"] == name]
        axes.plot(
            rows["observed"], [place + 0.15] * len(rows), "o", mfc="none", color=style.GREY, label="observed"
        )
        axes.errorbar(
            rows["fresh"],
            [place - 0.15] * len(rows),
            xerr=rows["fresh standard error"],
            fmt="s",
            color=style.BLUE,
            label="fresh questions, with standard error",
        )
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_xlabel("hypervolume of the front by posterior mean, one mark a seed")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:2], labels[:2], loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)
    return drawn


if __name__ == "__main__":
    main()
