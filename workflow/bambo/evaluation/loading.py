"""From the name of an engine to one that holds a model."""

import importlib
import importlib.util
import subprocess
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


def check_installed(name: str, python: str | None = None) -> None:
    """BadInput where the package of an engine is missing in the environment of `python`, or of this process."""
    kind = ENGINES.get(name)
    if kind is None or kind.package is None:
        return
    if python is None:
        found = importlib.util.find_spec(kind.package) is not None
    else:
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({kind.package!r}) is None)"
        found = subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    if not found:
        raise _not_installed(kind)


def _not_installed(kind: Kind) -> BadInput:
    return BadInput(
        f"evaluation.engine: {kind.package} is not installed in this environment; evaluation jobs need "
        f"{kind.environment}: --sdm conda, or evaluation.python"
    )


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
        raise _not_installed(kind) from None
    return getattr(module, kind.name)(model_dir, settings, machine)
