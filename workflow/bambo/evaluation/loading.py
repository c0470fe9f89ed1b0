"""From the name of an engine to one that holds a model."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import BadInput
from .engine import Engine, Machine


class Kind(NamedTuple):
    """Where an engine's class lives, and the package that it needs beside torch and transformers."""

    module: str
    name: str


# A module each, imported when it is asked for: they need packages that no one environment holds.
ENGINES = {"hf": Kind("hf", "HFEngine")}


def load_engine(settings: Mapping[str, Any], model_dir: Path, machine: Machine) -> Engine:
    """The engine that a recipe's `evaluation` names, with the model of `model_dir` loaded.

    Raises BadInput where the engine is unknown or not installed here, or the folder or the machine lacks what it needs;
    EvaluationFailed where the model does not fit into memory.
    """
    name = settings["engine"]
    if name not in ENGINES:
        raise BadInput(f"evaluation.engine: {name!r}, expected one of {', '.join(ENGINES)}")
    kind = ENGINES[name]
    module = importlib.import_module(f".{kind.module}", __package__)
    return getattr(module, kind.name)(model_dir, settings, machine)
