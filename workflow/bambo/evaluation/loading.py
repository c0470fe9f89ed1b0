"""From the name of an engine to one that holds a model."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import BadInput
from .engine import Engine, Machine


class Kind(NamedTuple):
    """Where an engine's class lives, what it needs beside torch and transformers, and where that is installed."""

    module: str
    name: str
    package: str | None = None
    environment: str = "envs/evaluate.yaml"
    lean: bool = True


# A module each, imported when it is asked for: they need packages that no one environment holds.
ENGINES = {
    "hf": Kind("hf", "HFEngine"),
    "continuous": Kind("continuous", "ContinuousEngine"),
    "vllm": Kind("vllm_engine", "VLLMEngine", "vllm", "envs/evaluate-vllm.yaml", lean=False),
    "server": Kind("server", "ServerEngine", "requests"),
}


def starts_lean(name: str) -> bool:
    """Whether the engine runs after `startup.lean`."""
    return name in ENGINES and ENGINES[name].lean


def load_engine(settings: Mapping[str, Any], model_dir: Path, machine: Machine) -> Engine:
    """The engine that a recipe's `evaluation` names, with the model of `model_dir` loaded.

    Raises BadInput where the engine is unknown or not installed here, or the folder or the machine lacks what it needs;
    EvaluationFailed where the model does not fit into memory.
    """
    name = settings["engine"]
    if name not in ENGINES:
        raise BadInput(f"evaluation.engine: {name!r}, expected one of {', '.join(ENGINES)}")
    kind = ENGINES[name]
    try:
        module = importlib.import_module(f".{kind.module}", __package__)
    except ModuleNotFoundError as error:
        if kind.package is None or error.name != kind.package:
            raise
        raise BadInput(
            f"evaluation.engine: {kind.package} is not installed in this environment; evaluation jobs need "
            f"{kind.environment}: --sdm conda, or evaluation.python"
        ) from None
    return getattr(module, kind.name)(model_dir, settings, machine)
