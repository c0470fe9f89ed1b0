"""Checks of a config against the machine and the models."""

import re
import tempfile
from pathlib import Path

from ..errors import BadInput
from .errors import Location, dotted, one_line, shown
from .identity import search_settings
from .models import Config, Model, Source


def is_hub_id(model: str) -> bool:
    """Whether a source's `model` is `org/name` on the hub, and not a folder.

    Where `org` is a folder, `name` is in it or misspelt.
    """
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", model) is not None and not Path(model).parent.exists()


def source_files(source: Model) -> list[str]:
    """The files of a model and, if it has one, of its adapter, by name; none for a hub id."""
    paths = source.model_dump(include={"model", "adapter"}).values()
    folders = [Path(each) for each in paths if each and not is_hub_id(each)]
    return [
        str(path)
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    ]


def check_paths(config: Config) -> None:
    """Check that models and benchmark data are there, seen from the working directory.

    BadInput names key and path.
    """
    models: dict[Location, Source] = {("sources", name): source for name, source in config.sources.items()}
    if config.base is not None:
        models["base",] = Source(**config.base.model_dump())
    for place, source in models.items():
        for key, path in (("model", source.model), ("adapter", source.adapter)):
            if path is not None and not is_hub_id(path) and not Path(path).is_dir():
                raise _missing((*place, key), path, "a folder, or a hub id org/name")
        if not is_hub_id(source.model) and source.revision is not None:
            text = (
                f"found {shown(source.revision)}, expected null, since a folder has no revisions; remove it"
            )
            raise BadInput(one_line(f"{dotted((*place, 'revision'))}: {text}"))
    for name, task in config.evaluation.tasks.items():
        if task.data is not None and not Path(task.data).exists():
            raise _missing(("evaluation", "tasks", name, "data"), task.data, "a file or a folder")


def _missing(place: Location, path: str, expected: str) -> BadInput:
    text = f"{dotted(place)}: found no {path} in {Path.cwd()}, expected {expected}; correct the path"
    return BadInput(one_line(text))


def check_blocks(config: Config, n_layers: int) -> None:
    """Check that no search has more blocks than the models have layers; BadInput names the key."""
    for name, search in config.searches.items():
        n_blocks = search_settings(config, name)["n_blocks"]
        if n_blocks is not None and n_blocks > n_layers:
            key = "blocks.n_blocks" if search.n_blocks is None else f"searches.{name}.n_blocks"
            raise BadInput(
                f"{key}: found {n_blocks}, expected at most {n_layers}, the layers of the models; lower it"
            )


def nearest_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there; BadInput where a link on the way leads nowhere."""
    for path in (folder, *folder.absolute().parents):
        if path.exists():
            return path
        if path.is_symlink():
            raise BadInput(
                f"{path}: a link to {path.readlink()}, which is gone; make that folder again, or remove the link"
            )
    return Path("/")


def check_writable(folder: Path) -> None:
    """Check that one can write to a folder, or to where it is to be made; BadInput names the place."""
    place = nearest_folder(folder)
    try:
        # By trying: permissions know nothing of read-only file systems.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        text = f"{folder}: cannot write to {place} ({error.strerror}), expected a folder to write to"
        raise BadInput(f"{text}; change its permissions or work elsewhere") from None
