"""A whole run of simulated searches in this process: what Snakemake would do, one job after the other."""

import runpy
from types import SimpleNamespace
from typing import Any

from bambo.candidate.folder import write_failure
from bambo.checkpoint import open_checkpoint
from bambo.config import deciding, load, run_settings, search_settings, settings_hash
from bambo.endpoints import write_end_points
from bambo.evaluation.simulated import simulate
from bambo.files import read_json, write_json
from bambo.objectives import normalisation
from bambo.partition import layer_differences
from bambo.records import write_record
from bambo.run import Run
from bambo.search.ledger import propose
from bambo.search.proposals import Place, proposal_path
from bambo.search.stopping import slots
from bambo.sources import describe
from bambo.space import parts, variables
from demo_config import ROOT, demo


def absolute(**changes: Any) -> dict[str, Any]:
    """The demo's config with paths that hold anywhere, and simulated evaluations of 8 questions."""
    config = demo(**{"evaluation__engine": "simulated", "evaluation__limit": 8, **changes})
    for source in config["sources"].values():
        source["model"] = str(ROOT / source["model"])
    for task in config["evaluation"]["tasks"].values():
        task["data"] = str(ROOT / task["data"])
    held_out = config["confirm"].get("data", {})
    config["confirm"] |= {"data": {name: str(ROOT / path) for name, path in held_out.items()}}
    return config


class SimulatedRun:
    """A run in the working directory, up to the end points' scores."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.config = given, load(given)
        self.folder = self.config.folder
        write_json(self.folder / "run.json", {"command": ["snakemake"], "config": given})
        for name, source in self.config.sources.items():
            write_json(self.folder / "sources" / f"{name}.json", describe(source.model, None))
        differences = layer_differences(
            [open_checkpoint(source.model) for source in self.config.sources.values()]
        )
        for search in self.config.searches:
            own = search_settings(self.config, search)
            found = parts(differences, own["n_blocks"], own["strategy"], self.config.blocks.norm, own["fold"])
            record = {
                "variables": variables(found, list(self.config.sources), own),
                "settings": deciding(self.config, search),
            }
            write_json(self.folder / "search" / search / "variables.json", record)
        self.run = Run.open(self.config)
        ends = write_end_points(self.run)
        write_json(self.folder / "endpoints/candidates.json", {"settings": run_settings(self.config), **ends})
        for id in {*ends["end_points"].values(), *ends["own_files"].values()}:
            self.score(id)
        objectives = {name: each.model_dump() for name, each in self.config.objectives.items()}
        found_ends = {name: self.run.scores(id) for name, id in ends["end_points"].items()}
        write_json(self.folder / "endpoints/normalisation.json", normalisation(objectives, found_ends))

    def report(self) -> None:
        """Tables, figures and pages, by the workflow's own scripts."""
        blocks = self.folder / "partition/blocks.json"
        searches = {
            name: read_json(self.folder / "search" / name / "variables.json") for name in self.config.searches
        }
        write_json(blocks, {"searches": searches})
        write_json(
            self.folder / "run.json",
            {**read_json(self.folder / "run.json"), "started": "2026-01-01 10:00:00"},
        )
        differences = layer_differences(
            [open_checkpoint(source.model) for source in self.config.sources.values()]
        )
        differences.to_parquet(self.folder / "partition/differences.parquet")
        for name in ("tables", "figures", "report"):
            places = SimpleNamespace(
                log=[str(self.folder / f"logs/{name}.log")],
                config=self.given,
                input=SimpleNamespace(
                    blocks=blocks, differences=self.folder / "partition/differences.parquet"
                ),
                output=SimpleNamespace(settings=self.folder / "tables/settings"),
            )
            runpy.run_path(str(ROOT / f"workflow/scripts/{name}.py"), {"snakemake": places})

    def score(self, id: str) -> None:
        folder = self.folder / "candidates" / id
        if not (folder / "scores.json").exists():
            simulate(read_json(folder / "recipe.json"), folder)

    def fail(self, id: str) -> None:
        write_failure(self.folder / "candidates" / id, "error", "always fails", 1)

    def ask(self, search: str, place: Place) -> dict[str, Any]:
        """Decide, and write the proposal."""
        proposal = propose(
            self.run,
            search,
            place.key,
            settings=search_settings(self.config, search),
            settings_hash=settings_hash(deciding(self.config, search)),
            variables=read_json(self.folder / "search" / search / "variables.json")["variables"],
            normalisation=read_json(self.folder / "endpoints/normalisation.json"),
            reference=self.config.reference_point,
        )
        write_record(proposal_path(self.folder, search, place.key), "proposal", proposal)
        return proposal

    def search(self, name: str) -> list[dict[str, Any]]:
        """All proposals of a search; of an asynchronous one, the slots take turns."""
        settings = search_settings(self.config, name)
        made = []
        if settings["schedule"] == "sync":
            for iteration in range(settings["iterations"] + 1):
                made.append(self.ask(name, Place(-1, iteration)))
                for id in made[-1]["candidates"]:
                    self.score(id)
            return made
        waiting: dict[int, list[str]] = {slot: [] for slot in range(slots(settings))}
        step = 0
        while waiting:
            for slot in list(waiting):
                for id in waiting[slot]:
                    self.score(id)
                made.append(self.ask(name, Place(slot, step)))
                waiting[slot] = made[-1]["candidates"]
                if made[-1]["stop"]:
                    del waiting[slot]
            step += 1
        return made
