"""Evaluations that fail: what the loop does, what the tables say, and one command that repairs just them."""

import sys
from pathlib import Path
from typing import Any

import faulty
import pandas as pd
import pytest
from bambo.records import read_record
from runs import Workflow, small_config


def first_batch(run: Workflow) -> list[str]:
    return read_record(run.results / "search/blocks/proposals/t000.json", "proposal")["candidates"]


@pytest.fixture
def faulty_run(finished: Workflow, tmp_path: Path) -> Any:
    """A run in which two candidates of the first batch, and a single weight, fail in three ways."""

    def make(**changes: Any) -> tuple[Workflow, dict[str, str]]:
        # The same config gives the same candidates as the undisturbed run.
        [single] = read_record(finished.results / "search/single/proposals/t000.json", "proposal")[
            "candidates"
        ][:1]
        batch = first_batch(finished)
        faults = {batch[2]: "exits", batch[3]: "kills_itself", single: "no_numbers"}
        config = small_config(retries=1, **changes)
        config["evaluation"]["python"] = str(faulty.interpreter(tmp_path, faults))
        return Workflow(tmp_path, config), faults

    return make


def test_continue_records_what_failed_and_one_command_repairs_it(faulty_run: Any, tmp_path: Path) -> None:
    workflow, faults = faulty_run(on_failure="continue")
    shown = workflow.succeed()
    observations = pd.read_parquet(workflow.results / "tables/observations.parquet")
    failed = observations[observations["status"] == "failed"].set_index("candidate")
    assert failed["failure"].to_dict() == dict(zip(faults, ["error", "killed", "bad scores"], strict=True))
    assert "this evaluation always fails" in failed.loc[next(iter(faults)), "reason"]
    assert failed[["reasoning", "accuracy", "seconds"]].isna().all(axis=None)
    assert "failed" in shown
    begun = faulty.started(tmp_path)
    assert all(begun.count(id) == (2 if id in faults else 1) for id in set(begun))
    # A failed candidate enters neither surrogate nor front, and is not asked for again.
    last = read_record(workflow.results / "search/blocks/proposals/t002.json", "proposal")
    assert set(last["failed"]) == set(faults) & set(first_batch(workflow))
    assert not set(last["observed"]) & set(faults)
    assert not set(pd.read_csv(workflow.results / "tables/pareto.csv")["candidate"]) & set(faults)
    assert not list(workflow.results.glob("candidates/*/model"))
    assert "Nothing to be done" in workflow.succeed("--dry-run")

    (tmp_path / "faults.json").write_text("{}")
    proposals = {path: path.read_bytes() for path in workflow.results.glob("search/*/proposals/*.json")}
    scores = workflow.scores()
    listed = workflow.bambo("failed", "results/small").stdout.split()
    assert {Path(path).parent.name for path in listed} == set(faults)
    workflow.succeed("--forcerun", *listed)
    assert sorted(faulty.started(tmp_path)[len(begun) :]) == sorted(faults)
    assert {path: path.read_bytes() for path in proposals} == proposals
    assert {id: text for id, text in workflow.scores().items() if id not in faults} == {
        id: text for id, text in scores.items() if id not in faults
    }
    repaired = pd.read_parquet(workflow.results / "tables/observations.parquet")
    assert (repaired["status"] == "ok").all()
    assert workflow.bambo("failed", "results/small").returncode == 1


def test_stop_ends_the_loop_after_the_iteration_and_the_next_start_does_the_rest(
    faulty_run: Any, finished: Workflow, tmp_path: Path
) -> None:
    workflow, faults = faulty_run(on_failure="stop")
    done = workflow.run()
    assert done.returncode == 1
    output = done.stdout + done.stderr
    for id in faults:
        assert f"candidate {id}: " in output
    assert "start again" in output
    assert not (workflow.results / "search/blocks/proposals/t001.json").exists()
    assert workflow.scores().keys() >= {*first_batch(workflow)} - faults.keys()
    assert not workflow.scores().keys() & faults.keys()
    begun = faulty.started(tmp_path)
    assert all(begun.count(id) == 2 for id in faults)

    (tmp_path / "faults.json").write_text("{}")
    workflow.succeed()
    again = faulty.started(tmp_path)[len(begun) :]
    assert all(again.count(id) == 1 for id in faults)
    assert not set(again) & set(begun) - faults.keys()
    # Nothing failed in the end, so the search is the undisturbed one.
    pd.testing.assert_frame_equal(workflow.table("pareto"), finished.table("pareto"))


def test_what_the_user_gave_wrong_stops_the_run_whatever_the_policy(tmp_path: Path) -> None:
    config = small_config(on_failure="continue", retries=0)
    config["evaluation"]["tasks"]["tiny_aime"]["max_tokens"] = 100_000
    workflow = Workflow(tmp_path, config)
    done = workflow.run()
    assert done.returncode == 1
    assert "evaluation.tasks.tiny_aime.max_tokens" in done.stdout + done.stderr
    assert not workflow.scores()


def test_an_interpreter_that_is_not_there_is_recorded_with_its_log(tmp_path: Path) -> None:
    config = small_config(on_failure="stop", retries=0)
    config["evaluation"]["python"] = str(tmp_path / "nowhere")
    done = Workflow(tmp_path, config).run()
    assert done.returncode == 1
    assert "nowhere" in done.stdout + done.stderr
    assert sys.executable not in done.stderr.splitlines()[-1]
