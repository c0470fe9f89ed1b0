"""A real cluster of one node: the same results as without it, failures that cost nothing, kills that lose nothing."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import faulty
import pandas as pd
import pytest
from bambo.records import read_record
from runs import Workflow, small_config
from slurm_runs import SlurmWorkflow, slurm
from waiting import wait_for

TABLES = ["observations", "pareto", "hypervolume", "selection"]
CHEAP = {"restarts": 2, "raw_samples": 16, "mc_samples": 16}


def search(**changes: Any) -> dict[str, Any]:
    """The demo's search, 8 + 3 x 4 evaluations, with few questions each."""
    config = small_config(**changes)
    config["searches"] = {"blocks": {"n_initial": 8, "iterations": 3, "batch_size": 4, **CHEAP}}
    config["evaluation"] |= {"limit": 8, "device": "auto"}
    return config


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The same search without a cluster."""
    workflow = Workflow(tmp_path_factory.mktemp("local"), search())
    workflow.succeed()
    return workflow


def assert_equal_tables(one: Workflow, other: Workflow) -> None:
    for name in TABLES:
        pd.testing.assert_frame_equal(one.table(name), other.table(name))


def test_equals_the_local_run_and_asks_for_gpus(local: Workflow, tmp_path: Path) -> None:
    workflow = SlurmWorkflow(tmp_path / "checkout", search())
    process = workflow.start()
    seen: dict[str, str] = {}

    def ended() -> bool:
        for line in slurm(
            "squeue", "--noheader", "--Format=JobID:20,tres-per-job:40,Partition:20"
        ).splitlines():
            job, gpus, partition = line.split()
            seen[job] = f"{gpus} {partition}"
        return process.poll() is not None

    wait_for(ended, "the end of the run", seconds=900)
    assert process.returncode == 0, (workflow.folder / "snakemake.log").read_text()
    assert_equal_tables(local, workflow)
    # One job a candidate, with a GPU; the sources' jobs have none.
    candidates = list(workflow.results.glob("candidates/*/scores.json"))
    assert sum(request == "gres:gpu:1 gpu" for request in seen.values()) == len(candidates)
    assert set(seen.values()) == {"gres:gpu:1 gpu", "N/A cpu"}
    assert not list(workflow.results.glob("candidates/*/model"))
    assert "Nothing to be done" in workflow.succeed("--dry-run")


def test_jobs_that_score_several_candidates(local: Workflow, tmp_path: Path) -> None:
    config = search(merge={"materialize": False})
    config["searches"]["blocks"]["iterations"] = 1
    config["evaluation"]["candidates_per_job"] = 4
    workflow = SlurmWorkflow(tmp_path / "checkout", config)
    process = workflow.start()
    assert workflow.finish(process) == 0, (workflow.folder / "snakemake.log").read_text()
    decisions = [
        read_record(workflow.results / f"search/blocks/proposals/t{t:03d}.json", "proposal") for t in (0, 1)
    ]
    assert [sorted(map(len, each["jobs"].values())) for each in decisions] == [[3, 3], [4]]
    columns = ["benchmark", "question", "correct", "output_tokens", "finish_reason", "text"]
    for candidate in decisions[0]["candidates"] + decisions[1]["candidates"]:
        here, there = (
            pd.read_parquet(run.results / "candidates" / candidate / "samples.parquet")[columns]
            for run in (workflow, local)
        )
        pd.testing.assert_frame_equal(here, there)
    # Three jobs, beside the end points', which have one each.
    logs = sorted(path.stem for path in (workflow.results / "logs/evaluate").glob("*.log"))
    jobs = [name for each in decisions for name in each["jobs"]]
    assert set(jobs) < set(logs)
    assert len(logs) == 3 + 3
    assert "Nothing to be done" in workflow.succeed("--dry-run")


@pytest.mark.parametrize("policy", ["continue", "stop"])
def test_four_ways_to_fail(local: Workflow, tmp_path: Path, policy: str) -> None:
    batch = read_record(local.results / "search/blocks/proposals/t000.json", "proposal")["candidates"]
    kinds = dict(zip(batch[3:7], ["cancelled", "time-out", "out of memory", "error"], strict=True))
    acts = dict(zip(kinds, ["sleeps", "sleeps", "takes_memory", "exits"], strict=True))
    config = search(on_failure=policy, retries=0)
    config["searches"]["blocks"]["iterations"] = 1
    config["evaluation"]["python"] = str(faulty.interpreter(tmp_path, acts))
    # A minute for the merge and one for the evaluation, which share a job.
    config["resources"]["evaluate"] |= {"mem_mb": 1500, "runtime": 1}
    config["resources"]["merge"] |= {"runtime": 1}
    workflow = SlurmWorkflow(tmp_path / "checkout", config)
    process = workflow.start()
    cancelled = next(iter(kinds))
    job = wait_for(lambda: workflow.job_of(cancelled), "the evaluation to be cancelled")
    wait_for(lambda: cancelled in faulty.started(tmp_path), "the model to be loaded")
    slurm("scancel", job)
    status = workflow.finish(process)
    shown = workflow.bambo("status", "results/small").stdout
    for id, kind in kinds.items():
        assert any(id in line and kind in line for line in shown.splitlines()), shown
    begun = faulty.started(tmp_path)
    assert all(begun.count(id) == 1 for id in {*begun})
    assert {*begun} >= {*batch}
    if policy == "continue":
        assert status == 0, (workflow.folder / "snakemake.log").read_text()
        failed = workflow.table("observations").query("status == 'failed'").set_index("candidate")
        assert failed["failure"].to_dict() == kinds
    else:
        assert status == 1
        assert not (workflow.results / "search/blocks/proposals/t001.json").exists()

    (tmp_path / "faults.json").write_text("{}")
    proposals = {path: path.read_bytes() for path in workflow.results.glob("search/*/proposals/*.json")}
    failed = workflow.bambo("failed", "results/small").stdout.split()
    assert {Path(path).parent.name for path in failed} == kinds.keys()
    assert workflow.finish(workflow.start("--forcerun", *failed)) == 0
    again = faulty.started(tmp_path)[len(begun) :]
    assert all(again.count(id) == 1 for id in kinds)
    assert {path: path.read_bytes() for path in proposals} == proposals
    observations = workflow.table("observations")
    assert (observations["status"] == "ok").all()
    if policy == "continue":
        assert {*again} == {*kinds}
    else:  # the loop goes on, as if nothing had happened
        assert not {*again} & ({*begun} - kinds.keys())
        assert len(observations.query("search == 'blocks'")) == 12


def test_killed_in_three_ways_and_no_evaluation_done_twice(tmp_path: Path, local: Workflow) -> None:
    config = search()
    config["evaluation"]["python"] = str(faulty.interpreter(tmp_path, {}))
    workflow = SlurmWorkflow(tmp_path / "checkout", config)
    finished: dict[str, bytes] = {}
    in_flight: set[str] = set()
    for count, how in [(2, signal.SIGKILL), (8, signal.SIGINT), (12, signal.SIGTERM)]:
        process = workflow.start()
        wait_for(lambda count=count: len(faulty.started(tmp_path)) > count, "an evaluation to be under way")
        under_way = {*faulty.started(tmp_path)} - workflow.scores().keys()
        os.killpg(process.pid, how) if how == signal.SIGKILL else process.send_signal(how)
        workflow.finish(process)
        if how == signal.SIGINT:  # Snakemake cancels its jobs: their evaluations begin anew
            in_flight |= under_way
        now = workflow.scores()
        assert now.items() >= finished.items()
        finished = now
        workflow.succeed("--unlock")
    assert len(finished) < 20, "killed too late to show anything"
    assert workflow.finish(workflow.start()) == 0
    assert workflow.scores().items() >= finished.items()
    begun = faulty.started(tmp_path)
    assert {id for id in begun if begun.count(id) > 1} <= in_flight
    assert_equal_tables(local, workflow)


def test_a_second_job_waits_for_the_first_and_takes_its_result(tmp_path: Path, local: Workflow) -> None:
    """Two jobs at one candidate, as after a kill of snakemake: by hand, at the same time."""
    config = search()
    config["evaluation"]["python"] = str(faulty.interpreter(tmp_path, {}))
    workflow = SlurmWorkflow(tmp_path / "checkout", config)
    candidate = next(path.parent for path in local.results.glob("candidates/*/scores.json"))
    folder = workflow.results / "candidates" / candidate.name
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_bytes((candidate / "recipe.json").read_bytes())
    command = f"{tmp_path}/python -m bambo.candidate evaluate {folder} --device cpu"
    library = {**os.environ, "PYTHONPATH": str(workflow.folder / "workflow")}
    jobs = [
        subprocess.Popen(
            ["srun", "--quiet", "--partition=gpu", "--gpus=1", "--mem=1500", "sh", "-c", command], env=library
        )
        for _ in range(2)
    ]
    assert [job.wait(timeout=300) for job in jobs] == [0, 0]
    assert faulty.started(tmp_path) == [candidate.name]


def test_slots_go_on_after_a_kill_of_snakemake(tmp_path: Path) -> None:
    config = search(retries=0)
    own = {"schedule": "async", "n_initial": 4, "iterations": 2, "batch_size": 2, **CHEAP}
    config["searches"] = {"free": own}
    config["evaluation"] |= {"engine": "simulated", "simulated": {"seconds": 10, "sigma": 0.5}}
    config["evaluation"]["python"] = str(faulty.interpreter(tmp_path, {}))
    workflow = SlurmWorkflow(tmp_path / "checkout", config)
    process = workflow.start()
    wait_for(lambda: len(faulty.started(tmp_path)) > 3, "a slot's candidate to be under way")
    os.killpg(process.pid, signal.SIGKILL)
    workflow.finish(process)
    paths = list((workflow.results / "search/free/proposals").glob("*.json"))
    decided = {path: path.read_bytes() for path in paths}
    assert decided
    workflow.succeed("--unlock")
    assert workflow.finish(workflow.start()) == 0, (workflow.folder / "snakemake.log").read_text()
    # The jobs of before went on, and their scores were taken.
    begun = faulty.started(tmp_path)
    assert sorted(begun) == sorted({*begun}) == sorted(workflow.scores())
    assert {path: path.read_bytes() for path in decided} == decided
    replayed = workflow.bambo("replay", "results/small")
    assert replayed.returncode == 0, replayed.stdout
    observations = workflow.table("observations").query("search == 'free'")
    assert observations["iteration"].tolist() == [str(t) for t in range(8)]
    assert "Nothing to be done" in workflow.succeed("--dry-run")
