"""A run's observations, hypervolume and files in experiment trackers: MLflow and TensorBoard.

Trackers read what the run wrote, and the run reads nothing of theirs: whatever goes wrong here is a warning. They can
be filled again and again, also while the run goes on: what is there already is not logged twice.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .config import Config, search_settings
from .files import read_json
from .report import fronts, tables

ARTIFACTS = ("tables/*.csv", "figures/*.svg", "README.md", "report.html", "front.html")
INSTALL = "pip install 'bambo[tracking]', or see pyproject.toml for the packages"


class Logged(NamedTuple):
    """What is to be known of one search: its settings, and its metrics, a row an evaluation."""

    search: str
    settings: Mapping[str, Any]
    steps: pd.DataFrame


def track(config: Config) -> list[str]:
    """Fill the trackers that the config names; returns what went wrong, a line each."""
    asked: dict[str, Callable[[Config, list[Logged]], None]] = {}
    if config.tracking.mlflow is not None:
        asked["mlflow"] = to_mlflow
    if config.tracking.tensorboard is not None:
        asked["tensorboard"] = to_tensorboard
    warnings = []
    for name, log in asked.items():
        # Whatever it is: a tracker must not stop a run.
        try:
            log(config, list(logged(config)))
        except ImportError as error:
            warnings.append(f"tracking.{name}: {error}; {INSTALL}")
        except Exception as error:
            text = " ".join(str(error).split())
            warnings.append(f"tracking.{name}: {type(error).__name__}: {text}; the run is not affected")
    return warnings


def logged(config: Config) -> Iterator[Logged]:
    """What the run has so far; a search without a scored candidate is left out."""
    folder = config.folder
    variables = {
        name: read_json(path)["variables"]
        for name in config.searches
        if (path := folder / "search" / name / "variables.json").exists()
    }
    run = tables.read_run(
        folder, variables, list(config.selection.limits), config.evaluation.prices.model_dump()
    )
    observations = tables.observations(run)
    course = fronts.hypervolume(observations, config.reference_point, config.resources.evaluate.gpu)
    names = [*tables.raw_metrics(observations), *tables.objective_names(observations)]
    names += [name for name in map(str, observations.columns) if "." in name and not name.endswith("_stderr")]
    for search in tables.search_names(observations):
        own = observations[observations["search"] == search]
        steps = course[course["search"] == search].drop(columns=["search", "iteration", "reference_point"])
        steps = steps.merge(own[["candidate", *names]], on="candidate").drop(columns="candidate")
        settings = {key: value for key, value in search_settings(config, search).items() if value is not None}
        yield Logged(search, settings, steps.reset_index(drop=True))


def to_mlflow(config: Config, searches: list[Logged]) -> None:
    """An experiment a run, in it an MLflow run a search; steps are evaluations. A folder holds a database and files."""
    os.environ.setdefault("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    place = str(config.tracking.mlflow)
    folder = None if ":" in place else Path(place).resolve()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        place = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=place)
    found = client.get_experiment_by_name(config.run)
    files = None if folder is None else (folder / "artifacts").as_uri()
    experiment = found.experiment_id if found else client.create_experiment(config.run, files)
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    for search, settings, steps in searches:
        id = runs.get(search) or client.create_run(experiment, run_name=search).info.run_id
        if search not in runs:
            client.log_batch(id, params=[Param(key, str(value)) for key, value in settings.items()])
        before = len(client.get_metric_history(id, "hypervolume"))
        metrics = [
            Metric(_key(name), float(value), 0, int(row["evaluations"]))
            for row in steps.iloc[before:].to_dict("records")
            for name, value in row.items()
            if pd.notna(value)
        ]
        for start in range(0, len(metrics), 500):  # the most that a batch may have is 1,000
            client.log_batch(id, metrics=metrics[start : start + 500])
        for pattern in ARTIFACTS:
            for path in sorted(config.folder.glob(pattern)):
                part = path.parent.relative_to(config.folder)
                client.log_artifact(id, str(path), None if part == Path() else str(part))
        client.update_run(id, status="FINISHED")


def to_tensorboard(config: Config, searches: list[Logged]) -> None:
    """A folder of event files a search, in one of the run; steps are evaluations. Older event files are replaced."""
    from torch.utils.tensorboard import SummaryWriter

    for search, settings, steps in searches:
        folder = Path(str(config.tracking.tensorboard)) / config.run / search
        for path in folder.glob("events.out.tfevents.*"):
            path.unlink()
        with SummaryWriter(str(folder)) as writer:
            table = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
            writer.add_text("settings", f"| key | value |\n|---|---|\n{table}")
            for row in steps.to_dict("records"):
                for name, value in row.items():
                    if name != "evaluations" and pd.notna(value):
                        writer.add_scalar(_key(name), float(value), int(row["evaluations"]))


def print_warnings(warnings: list[str]) -> None:
    for text in warnings:
        print(f"warning: {text}", file=sys.stderr, flush=True)


def _key(name: Any) -> str:
    """A metric's name as both take it: letters, digits and a few signs."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in str(name))
