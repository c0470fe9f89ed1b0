"""SIGKILL at random moments: every restart goes on where the run was, and it ends with the same tables."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from statistics import median

import faulty
import pandas as pd
from runs import ENVIRONMENT, Workflow, small_config

KILLS = 20  # fewer where the machine is so fast that the run ends before
PLACES = 2  # evaluations at a time


def test_killed_run_equals_an_undisturbed_one(finished: Workflow, tmp_path: Path) -> None:
    config = small_config()
    config["evaluation"]["python"] = str(faulty.interpreter(tmp_path, {}))
    workflow = Workflow(tmp_path / "run", config)
    # Moments from just before the first job to well within an evaluation, however fast the machine is.
    before = time.perf_counter()
    workflow.succeed("-n")
    start = time.perf_counter() - before
    one = median(json.loads(scores)["seconds"] for scores in finished.scores().values())
    late = 1.3 * one
    generator = random.Random(0)
    scored: dict[str, bytes] = {}
    kills = 0
    while kills < KILLS and kill_after(workflow, generator.uniform(0.8 * start, start + late)):
        kills += 1
        now = workflow.scores()
        assert now.items() >= scored.items(), "a finished evaluation was done again"
        scored = now
        late *= 1 if scored else 1.1  # the machine may have become slower since `one` was measured
        workflow.succeed("--unlock")
    assert kills >= KILLS / 2, "the run ended too soon to show anything"
    assert scored, "nothing was finished between the kills"
    workflow.succeed()
    assert workflow.scores().items() >= scored.items()
    assert workflow.bambo("check", "results/small").returncode == 0

    # At most what was under way was begun again: no more than the places a kill.
    begun = faulty.started(tmp_path)
    assert {*begun} == {*finished.scores()}
    assert len(begun) - len({*begun}) <= kills * PLACES
    for name in ["observations", "pareto", "hypervolume", "selection"]:
        pd.testing.assert_frame_equal(workflow.table(name), finished.table(name))


def kill_after(workflow: Workflow, seconds: float) -> bool:
    """Start Snakemake in a process group of its own and kill the group; whether it was still at work."""
    with (workflow.folder / "killed.log").open("a") as log:
        process = subprocess.Popen(
            workflow.command(),
            cwd=workflow.folder,
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            assert process.wait(timeout=seconds) == 0, (workflow.folder / "killed.log").read_text()[-5000:]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        return False
