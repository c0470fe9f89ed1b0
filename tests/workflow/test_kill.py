"""SIGKILL at random moments: the run goes on where it was, and ends with the same tables."""

import os
import random
import signal
import subprocess
from pathlib import Path

import pandas as pd
from bambo.report.tables import MEASURED
from conftest import ENVIRONMENT, Workflow, small_config

KILLS = 3


def test_killed_run_equals_an_undisturbed_one(finished: Workflow, tmp_path: Path) -> None:
    workflow = Workflow(tmp_path, small_config())
    generator = random.Random(0)
    scored: dict[str, bytes] = {}
    for _ in range(KILLS):
        wait_and_kill(workflow, seconds=generator.uniform(10, 40))
        still_there = workflow.scores()
        assert still_there.items() >= scored.items(), "a finished evaluation was done again"
        scored = still_there
        workflow.succeed("--unlock")
    assert len(scored) < len(finished.scores()), "killed too late to show anything"
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


def wait_and_kill(workflow: Workflow, seconds: float) -> None:
    """Start Snakemake in a process group of its own and kill the group after some time."""
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
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
