"""What can be known to be wrong before any job runs."""

from pathlib import Path

from .checkpoint import check_compatible, open_checkpoint
from .config import (
    Config,
    check_blocks,
    check_paths,
    check_unchanged,
    check_writable,
    deciding,
    is_hub_id,
    run_settings,
)
from .evaluation import check_tasks
from .files import read_json


def check(config: Config) -> None:
    """BadInput for what the config names and does not find, or finds other than it must be. Reads headers only.

    Sources on the hub are checked by their jobs, which download them.
    """
    check_paths(config)
    _check_sources(config)
    check_tasks({name: task.model_dump() for name, task in config.evaluation.tasks.items()})
    folder = config.folder
    check_writable(folder)
    _check_unchanged(config, folder)


def _check_sources(config: Config) -> None:
    local = [source.model for source in config.sources.values() if not is_hub_id(source.model)]
    checkpoints = [open_checkpoint(Path(model)) for model in local]
    check_compatible(checkpoints)
    for checkpoint in checkpoints:
        check_blocks(config, checkpoint.layers)


def _check_unchanged(config: Config, folder: Path) -> None:
    """What was begun goes on with the settings that it was begun with, or under another name."""
    begun = {"run": (folder / "endpoints" / "candidates.json", run_settings(config))}
    for search in config.searches:
        begun[f"searches.{search}"] = (
            folder / "search" / search / "variables.json",
            deciding(config, search),
        )
    for place, (record, settings) in begun.items():
        if record.exists():
            check_unchanged(place, read_json(record)["settings"], settings)
