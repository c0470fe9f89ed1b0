"""An interpreter for evaluation jobs (`evaluation.python`) under which chosen candidates fail in chosen ways.

`interpreter(folder, faults)` writes it: everything of the job is real up to the moment when the loaded model would be
asked. Each evaluation that gets so far leaves a line in `started.log`, so that tests can count them. Faults end when
the file `faults.json` is emptied. With `without_cuda` an evaluation that was given a GPU notes its UUID in
`devices.log`, waits there until another GPU was given away, too, and runs on the CPU.
"""

import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from waiting import wait_for

MEGABYTES = 4000  # more than any job of the tests may take


def interpreter(folder: Path, faults: Mapping[str, str], without_cuda: bool = False) -> Path:
    """Write `folder`/python, and the faults (candidate -> kind, a function below) that it acts out."""
    script = folder / "python"
    if without_cuda:
        (folder / "devices.log").touch()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "{folder}" "$@"\n')
    script.chmod(0o755)
    (folder / "faults.json").write_text(json.dumps(faults))
    return script


def started(folder: Path) -> list[str]:
    """The candidates whose evaluation began, one entry a time."""
    log = folder / "started.log"
    return log.read_text().split() if log.exists() else []


def exits() -> NoReturn:
    raise RuntimeError("this evaluation always fails")


def kills_itself() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def takes_memory() -> NoReturn:
    held = []
    while len(held) < MEGABYTES:
        held.append(bytearray(os.urandom(1 << 20)))
        time.sleep(0.002)
    sleeps()


def sleeps() -> NoReturn:
    while True:
        time.sleep(1)


def no_numbers() -> NoReturn:
    from bambo.evaluation.engine import EvaluationFailed

    raise EvaluationFailed("bad scores", "logits are NaN")


def note(folder: Path, line: str) -> None:
    with (folder / "devices.log").open("a") as log:
        log.write(f"{line}\n")


def used(folder: Path) -> set[str]:
    """UUIDs of the GPUs that evaluations were given."""
    return {line.split()[-1] for line in (folder / "devices.log").read_text().splitlines()}


def main() -> None:
    folder = Path(sys.argv[1])
    _, module, step = sys.argv[2:5]
    sys.argv = [module, *sys.argv[4:]]
    if step == "evaluate":
        import bambo.evaluation
        from bambo.evaluation import simulated

        simulate = simulated.simulate
        load, evaluate = bambo.evaluation.load_engine, bambo.evaluation.evaluate
        without_cuda = (folder / "devices.log").exists()

        def loading(settings: Any, model: Path, machine: Any) -> Any:
            return load(settings, model, replace(machine, device="cpu") if without_cuda else machine)

        def begin(name: str) -> None:
            with (folder / "started.log").open("a") as log:
                log.write(f"{name}\n")
            fault = json.loads((folder / "faults.json").read_text()).get(name)
            if fault is not None:
                globals()[fault]()

        def simulating(recipe: Any, *arguments: Any) -> Any:
            begin(recipe["id"])
            return simulate(recipe, *arguments)

        def evaluating(recipe: Any, *arguments: Any, **settings: Any) -> Any:
            name = recipe["id"]
            begin(name)
            if without_cuda:
                note(folder, f"begin {name} {os.environ['CUDA_VISIBLE_DEVICES']}")
                # So short are evaluations of the tests that they need not meet by themselves.
                wait_for(lambda: len(used(folder)) > 1, "an evaluation on another GPU", seconds=120)
            scores = evaluate(recipe, *arguments, **settings)
            if without_cuda:
                note(folder, f"end {name} {os.environ['CUDA_VISIBLE_DEVICES']}")
            return scores

        bambo.evaluation.load_engine, bambo.evaluation.evaluate = loading, evaluating
        simulated.simulate = simulating
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
