"""An interpreter for evaluation jobs (`evaluation.python`) under which chosen candidates fail in chosen ways.

`interpreter(folder, faults)` writes it: everything of the job is real up to the moment when the model would be loaded.
Each evaluation that gets so far leaves a line in `started.log`, so that tests can count them. Faults end when the file
`faults.json` is emptied. With `without_cuda` an evaluation that was given a GPU notes its UUID in `devices.log`, and
runs on the CPU.
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


def main() -> None:
    folder = Path(sys.argv[1])
    _, module, step, candidate = sys.argv[2:6]
    sys.argv = [module, *sys.argv[4:]]
    if step == "evaluate":
        import bambo.evaluation
        import bambo.evaluation.job as job
        import bambo.evaluation.loading as engines

        load, write = engines.load_engine, job.write_record
        name = Path(candidate).name

        def loading(settings: Any, model: Path, machine: Any) -> Any:
            with (folder / "started.log").open("a") as log:
                log.write(f"{name}\n")
            fault = json.loads((folder / "faults.json").read_text()).get(name)
            if fault is not None:
                globals()[fault]()
            if (folder / "devices.log").exists():
                note(folder, f"begin {name} {os.environ['CUDA_VISIBLE_DEVICES']}")
                machine = replace(machine, device="cpu")
            return load(settings, model, machine)

        def writing(*arguments: Any) -> None:
            write(*arguments)
            if (folder / "devices.log").exists():
                note(folder, f"end {name} {os.environ['CUDA_VISIBLE_DEVICES']}")

        bambo.evaluation.load_engine, job.write_record = loading, writing
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
