"""SIGKILL at random moments: the run goes on where it was, and ends with the same tables."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
from bambo.report.tables import MEASURED
from conftest import ENVIRONMENT, Workflow, small_config

KILLS = 3


def test_killed_run_equals_an_undisturbed_one(finished: Workflow, tmp_path: Path) -> None:
    workflow = Workflow(tmp_path, small_config())
    generator = random.Random(0)
    evaluations = len(finished.scores())
    scored: dict[str, bytes] = {}
    # Moments of progress, not of the clock: a faster machine is killed in the middle, too.
    for count in sorted(generator.sample(range(evaluations - 3), KILLS)):
        kill_after(workflow, count, delay=generator.uniform(0, 3))
        still_there = workflow.scores()
        assert still_there.items() >= scored.items(), "a finished evaluation was done again"
        scored = still_there
        workflow.succeed("--unlock")
    assert len(scored) < evaluations, "killed too late to show anything"
    workflow.succeed()
    assert workflow.scores().items() >= scored.items()

    for name in ["observations", "pareto", "hypervolume", "selection"]:
        undisturbed, killed = (
            pd.read_csv(run.results / "tables" / f"{name}.csv", dtype=str).drop(
                columns=MEASURED, errors="ignore"
            )
            for run in (finished, workflow)
        )
        pd.testing.assert_frame_equal(undisturbed, killed)


def kill_after(workflow: Workflow, count: int, delay: float) -> None:
    """Start Snakemake in a process group of its own; kill the group `delay` seconds after `count` evaluations."""
    with (workflow.folder / "killed.log").open("a") as log:
        process = subprocess.Popen(
            workflow.command(),
            cwd=workflow.folder,
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        while len(workflow.scores()) < count:
            assert process.poll() is None, "the run ended by itself; see killed.log"
            time.sleep(0.1)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
