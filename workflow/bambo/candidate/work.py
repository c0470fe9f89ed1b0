"""The jobs at a candidate: merge its model, and score it. Each finds the other's, and its own, earlier work.

How failures go (`attempt` counts from 1, `retries` further ones are allowed): an attempt that fails keeps the model and
says why in attempts.jsonl. The attempt after the last retry works no more; it records the failure, or, where failures
stop the loop, ends the job with what went wrong.
"""

import errno
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput, os_error
from ..evaluation.engine import Engine, EvaluationFailed, Machine
from ..recipe import read_recipe
from . import devices
from .attempts import Attempts, Failure
from .folder import MERGED, MODEL, SAMPLES, SCORES, is_scored, remove_model, statistics_folder, write_failure
from .lease import hold

if TYPE_CHECKING:
    from ..merging import Sources

SIMULATED = "simulated"  # the engine that needs no model


@dataclass(frozen=True)
class Policy:
    """Which attempt this is, and what becomes of a failure after the last one: "stop" or "continue" the loop."""

    attempt: int
    retries: int
    on_failure: str

    @property
    def exhausted(self) -> bool:
        return self.attempt > self.retries + 1


def merge(
    folder: Path,
    policy: Policy,
    threads: int,
    in_place: bool = False,
    device: str = "cpu",
    lock: bool = False,
) -> None:
    """Make the candidate's model, unless it is there, or not needed (any more); then its mark for Snakemake.

    in_place: its evaluation merges straight into the loaded engine. lock: no scheduler assigns the GPU of "cuda".
    """
    recipe = read_recipe(folder / "recipe.json")
    with hold(folder):
        if not is_scored(folder):
            attempts = Attempts(folder)
            attempts.settle()
            if policy.exhausted:
                _end_on_bad_input(attempts)  # else the evaluation records what happened
            elif recipe["evaluation"]["engine"] != SIMULATED and not in_place:
                machine = Machine(device, gpus=int(device == "cuda"))
                with _attempt(attempts, policy, "merge"), held_gpus(machine, lock) as found:
                    if machine.gpus and not found:
                        raise BadInput(
                            "merge.device: cuda, but no GPU can be used here; set cpu, or see nvidia-smi and "
                            f"{devices.VISIBLE}"
                        )
                    _model(folder, recipe, threads, device)
        (folder / MERGED).touch()


def evaluate(
    folder: Path,
    policy: Policy,
    machine: Machine,
    lock: bool,
    started: tuple[float, float],
    in_place: bool = False,
) -> None:
    """Score the candidate, unless it is scored; remove its model once it is, or once it is given up.

    machine: with `device` auto, too. lock: no scheduler assigns its GPUs. started: as in `bambo.evaluation.evaluate`.
    in_place: merge straight into the loaded engine, without a file.
    """
    with hold(folder):
        if is_scored(folder):
            os.utime(folder / SCORES)  # for Snakemake: made now
        else:
            attempts = Attempts(folder)
            attempts.settle()
            if policy.exhausted:
                _give_up(folder, attempts, policy)
            else:
                with held_gpus(machine, lock) as found, closing(Loaded(machine, found, in_place)) as engines:
                    _score(folder, attempts, policy, engines, started)
        remove_model(folder)


def evaluate_together(
    folders: Sequence[Path], policy: Policy, machine: Machine, lock: bool, started: tuple[float, float]
) -> None:
    """Score candidates one after the other, merged into one engine that stays loaded.

    One that fails does not keep the others from their scores; it is left without, and evaluated alone later.
    """
    with held_gpus(machine, lock) as found, closing(Loaded(machine, found, in_place=True)) as engines:
        for folder in folders:
            with hold(folder):
                if is_scored(folder):
                    continue
                attempts = Attempts(folder)
                attempts.settle()
                if policy.exhausted:
                    _end_on_bad_input(attempts)
                    continue
                try:
                    _score(folder, attempts, policy, engines, started)
                except BadInput:
                    raise
                except Exception as error:
                    print(f"{folder.name}: {_failure(error).reason}; evaluated alone later", file=sys.stderr)
                    engines.close()  # what state it is in is not known
            started = time.perf_counter(), time.process_time()


def _model(folder: Path, recipe: dict[str, Any], threads: int, device: str = "cpu") -> Path:
    from ..merging import merge as merge_recipe

    for name in (MODEL, SAMPLES, SCORES):  # of attempts that were killed
        for path in folder.glob(f".{name}.*.tmp"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    model = folder / MODEL
    if not model.exists():
        statistics = statistics_folder(folder.parent.parent)
        merge_recipe(recipe, model, threads=threads, device=device, cache=statistics)
    return model


def _score(
    folder: Path, attempts: Attempts, policy: Policy, engines: "Loaded", started: tuple[float, float]
) -> None:
    recipe = read_recipe(folder / "recipe.json")
    with _attempt(attempts, policy, "evaluate"):
        if recipe["evaluation"]["engine"] == SIMULATED:
            from ..evaluation.simulated import simulate

            simulate(recipe, folder, *engines.machine.pause)
        else:
            engines.score(folder, recipe, started)
    attempts.forget()


class Loaded:
    """The engine of a job, kept from one candidate to the next where they are merged in place."""

    def __init__(self, machine: Machine, found: list[str], in_place: bool) -> None:
        """found: the GPUs that can be used."""
        self.machine, self.found, self.in_place = machine, found, in_place
        self.engine: Engine | None = None
        self.sources: Sources | None = None
        self.kind: dict[str, Any] = {}  # what the engine was loaded for

    def score(self, folder: Path, recipe: dict[str, Any], started: tuple[float, float]) -> None:
        device, gpus = device_of(self.machine, self.found)
        machine = replace(self.machine, device=device, gpus=gpus)
        from ..evaluation.loading import starts_lean

        if device == "cpu" and starts_lean(recipe["evaluation"]["engine"]):
            from ..evaluation.startup import lean

            lean()  # small models: on a GPU, where seconds of start-up are nothing, all imports are the usual ones
        from ..evaluation import evaluate as score

        if self.in_place:
            engine = self._merged_into(recipe, machine, statistics_folder(folder.parent.parent))
        else:
            engine = self._load(recipe, _model(folder, recipe, machine.threads), machine)
        score(recipe, engine, folder, machine=machine, started=started)

    def _merged_into(self, recipe: dict[str, Any], machine: Machine, statistics: Path) -> Engine:
        from ..merging import merged_tensors, open_sources

        settings = {key: recipe["evaluation"].get(key) for key in ("engine", "dtype", "server")}
        kind = {"sources": recipe["sources"], "files_from": recipe["files_from"], **settings}
        kind |= {"base": recipe.get("base"), "vocabulary": recipe.get("options", {}).get("vocabulary")}
        if self.engine is None or self.sources is None or kind != self.kind:
            self.close()
            self.sources = open_sources(recipe)
            self._load(recipe, Path(recipe["sources"][recipe["files_from"]]["path"]), machine)
            self.kind = kind
        assert self.engine is not None
        self.engine.load_weights(merged_tensors(recipe, self.sources, machine.threads, cache=statistics))
        return self.engine

    def _load(self, recipe: dict[str, Any], model: Path, machine: Machine) -> Engine:
        from ..evaluation import load_engine

        self.engine = load_engine(recipe["evaluation"], model, machine)
        return self.engine

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
        self.engine = None


@contextmanager
def held_gpus(machine: Machine, lock: bool) -> Iterator[list[str]]:
    """The GPUs that can be used; waits for as many as the evaluation takes where no scheduler assigns them."""
    found = devices.gpus() if machine.gpus and machine.device != "cpu" else []
    with ExitStack() as stack:
        if lock and 0 < machine.gpus <= len(found):
            found = stack.enter_context(devices.exclusive(machine.gpus, found))
        yield found


def device_of(machine: Machine, found: list[str]) -> tuple[str, int]:
    """The device to evaluate on, and how many of the found GPUs that takes; BadInput where they are too few."""
    if machine.device == "cpu" or (machine.device == "auto" and not found):
        return "cpu", 0
    if len(found) < machine.gpus:
        raise BadInput(
            f"resources.evaluate.gpu: {machine.gpus}, but {len(found)} GPUs can be used here; "
            f"lower it, or see nvidia-smi and {devices.VISIBLE}"
        )
    return "cuda", machine.gpus


@contextmanager
def _attempt(attempts: Attempts, policy: Policy, step: str) -> Iterator[None]:
    """One attempt at a step: however it ends short of a kill, its end is written down."""
    attempts.begin(policy.attempt, step)
    try:
        yield
    except Exception as error:
        with suppress(OSError):  # a full disk cannot take this line, either
            attempts.end(_failure(error))
        if isinstance(error, OSError):
            raise os_error(error) from None
        raise
    attempts.end()


def _failure(error: Exception) -> Failure:
    text = " ".join(str(error).split())
    if isinstance(error, BadInput):
        return Failure("input", text)
    if isinstance(error, OSError) and error.errno != errno.ENOMEM:
        return Failure("input", str(os_error(error)))
    if isinstance(error, EvaluationFailed):
        return Failure(error.kind, text)
    memory = isinstance(error, MemoryError | OSError) or "can't allocate memory" in text
    return Failure("out of memory" if memory else "error", f"{type(error).__name__}: {text}")


def _end_on_bad_input(attempts: Attempts) -> None:
    """What the user gave is wrong: that stops the run whatever the policy, as it concerns all candidates."""
    last = attempts.last_failure
    if last is not None and last.kind == "input":
        raise BadInput(last.reason)


def _give_up(folder: Path, attempts: Attempts, policy: Policy) -> None:
    _end_on_bad_input(attempts)
    last = attempts.last_failure or Failure(
        "error", f"ended before it began; see logs/evaluate/{folder.name}.log"
    )
    attempts.give_up()
    if policy.on_failure == "continue":
        write_failure(folder, last.kind, last.reason, policy.attempt - 1)
        return
    remove_model(folder)
    raise EvaluationFailed(
        last.kind,
        f"candidate {folder.name}: {last.kind} in the last of {policy.attempt - 1} attempts ({last.reason}); "
        "the loop stops after this iteration: mend the cause and start again",
    )
