"""Searches on the embedded pair in warm processes: the workflow's own functions and files, without its jobs.

A thousand jobs would spend most of their time importing. Sources, variables and end points are made by the workflow's
own rules; what is there already is not made again, so that a benchmark goes on where it was stopped.
"""

import copy
import fcntl
import heapq
import logging
import multiprocessing
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from bambo.candidate.folder import read_samples
from bambo.config import Config, deciding, load, search_settings, settings_hash
from bambo.files import read_json, write_text
from bambo.objectives import evaluate as objectives_of
from bambo.pareto import hypervolume
from bambo.records import read_record, write_record
from bambo.report import fronts, searches, tables
from bambo.resampling import Answered, Resampling
from bambo.run import Merge, Run
from bambo.search.ledger import propose
from bambo.search.promotions import PROMOTIONS, promote
from bambo.search.proposals import Place, proposal_path
from bambo.search.start import Coarser
from bambo.search.stopping import planned_evaluations, slots

FOLDER = Path("results/benchmarks")
SIGMA = 0.8  # of the logarithm of a slot's made-up durations
RESAMPLES = 400

logging.getLogger("lm_eval").setLevel(logging.ERROR)


def fresh_fronts(given: dict[str, Any], jobs: int) -> pd.DataFrame:
    """Run every search of a config, and score its front by posterior mean on fresh questions, which no search saw.

    One row a search: `group`, `seed`, `variables`, `evaluations` and `output_tokens` as if it had run alone,
    `front_size`, the hypervolumes `observed` (what the observed front claims), `posterior` (what the chosen one does)
    and `fresh`, with its standard error over questions, `fresh_stderr`.
    """
    fresh_given = on_fresh_questions(given)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in (given, fresh_given):
        prepare(each)
    config, fresh = load(given), load(fresh_given)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        # Those that others start from come first.
        first = [name for name, own in config.searches.items() if own.start_from is None]
        for names in (first, [name for name in config.searches if name not in first]):
            for count, name in enumerate(pool.map(search, [given] * len(names), names), start=1):
                print(f"{count} of {len(names)} searches: {name}", flush=True)
        spaces = {name: variables(Run.open(config), name) for name in config.searches}
        run = tables.read_run(config.folder, spaces)
        observations = tables.observations(run)
        settings = {name: search_settings(config, name) for name in config.searches}
        pareto = fronts.pareto(run, observations, settings, config.reference_point)
        chosen = pareto[(pareto["front"] == "posterior") & (pareto["search"] != tables.ALL)]
        members = sorted(chosen["candidate"].unique())
        recipes = [read_json(config.folder / "candidates" / id / "recipe.json") for id in members]
        ids = dict(zip(members, pool.map(rescore, [fresh_given] * len(recipes), recipes), strict=True))
    presets = {name: own.preset for name, own in config.searches.items()}
    table = searches.table(run, observations, pareto, settings, presets, config.reference_point)
    table = table[table["statistic"] == ""].set_index("search")
    rows = []
    for name in config.searches:
        front = chosen[chosen["search"] == name]
        value, error = fresh_hypervolume(Run.open(fresh), [ids[id] for id in front["candidate"]], config)
        rows.append(
            {
                "search": name,
                "group": table.loc[name, "group"],
                "seed": settings[name]["seed"],
                "variables": len(spaces[name]),
                "evaluations": table.loc[name, "evaluations_total"],
                "output_tokens": table.loc[name, "output_tokens"],
                "front_size": len(front),
                "observed": table.loc[name, "hypervolume"],
                "posterior": table.loc[name, "hypervolume_posterior"],
                "fresh": value,
                "fresh_stderr": error,
            }
        )
    return pd.DataFrame(rows)


def prepare(given: dict[str, Any]) -> None:
    """What the workflow makes before its searches, by its own rules."""
    folder, config = f"results/{given['run']}", FOLDER / f"{given['run']}.yaml"
    write_text(config, yaml.safe_dump(given, sort_keys=False))
    targets = [f"{folder}/partition/blocks.json", f"{folder}/endpoints/normalisation.json"]
    command = [sys.executable, "-m", "snakemake", *targets, "--configfile", str(config), "--cores", "2"]
    subprocess.run(command, check=True)


def on_fresh_questions(given: dict[str, Any]) -> dict[str, Any]:
    """The same run on the fresh questions, of which only the end points are needed."""
    fresh = copy.deepcopy(given)
    for task in fresh["evaluation"]["tasks"].values():
        path = Path(task["data"])
        task["data"] = str(path.with_stem(f"{path.stem}_fresh"))
    fresh["evaluation"].pop("first_share", None)
    fresh.pop("importance", None)
    return fresh | {"run": f"{given['run']}-fresh", "searches": {"grid": {"preset": "model-grid"}}}


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
        place = Place(-1, iteration)
        proposal = decided(config, run, name, settings, place)
        yield from proposal["candidates"]
        if "whole" in proposal:  # first stages, now scored
            yield from promoted(config, run, name, settings, place, proposal)["candidates"]


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


def promoted(
    config: Config,
    run: Run,
    name: str,
    settings: Mapping[str, Any],
    place: Place,
    proposal: Mapping[str, Any],
) -> dict[str, Any]:
    """What becomes of a proposal's first stages; decided unless it is there."""
    path = config.folder / "search" / name / PROMOTIONS / f"{place.key}.json"
    if not path.exists():
        scale = read_json(config.folder / "endpoints" / "normalisation.json")
        write_record(path, "promotion", promote(run, name, place.key, proposal, settings, scale))
    return read_record(path, "promotion")


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
    ends = read_json(run.folder / "endpoints" / "candidates.json")["end_points"]
    value = hypervolume(objectives_of(map(run.scores, ids), scale).Y, config.reference_point)
    answered = {
        id: Answered(run.scores(id), read_samples(run.folder / "candidates" / id))
        for id in {*ids, *ends.values()}
    }
    draws = Resampling(answered, RESAMPLES).objectives(ids, scale)
    return value, float(np.std([hypervolume(Y, config.reference_point) for Y in draws], ddof=1))
