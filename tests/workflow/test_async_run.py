"""Asynchronous searches: real runs with simulated evaluations, undisturbed, killed, with failures, and extended."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import faulty
import pytest
from bambo.records import read_record
from runs import ENVIRONMENT, Workflow, small_config

PLACES = 2  # evaluations at a time
SLOTS, INITIAL, EVALUATIONS = 3, 4, 10
CHEAP = {"restarts": 2, "raw_samples": 16, "mc_samples": 16}
END = f"results/small/search/free/complete-{EVALUATIONS}"


def config(search: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """4 + 6 simulated evaluations of about half a second in 3 slots."""
    made = small_config(**changes)
    own = {"schedule": "async", "n_initial": INITIAL, "iterations": 2, "batch_size": SLOTS}
    made["searches"] = {"free": own | ({} if "optimiser" in search else CHEAP) | search}
    made["evaluation"] |= {"engine": "simulated", "simulated": {"seconds": 0.5, "sigma": 0.8}}
    return made


def proposals(workflow: Workflow) -> dict[str, dict[str, Any]]:
    paths = (workflow.results / "search/free/proposals").glob("*.json")
    return {path.stem: read_record(path, "proposal") for path in paths}


def in_order(workflow: Workflow) -> list[dict[str, Any]]:
    asking = [each for each in proposals(workflow).values() if each["candidates"]]
    return sorted(asking, key=lambda each: each["iteration"])


def assert_sound(workflow: Workflow, evaluations: int = EVALUATIONS) -> None:
    """Each number was decided once, from all that was decided before, and would be decided so again."""
    made = in_order(workflow)
    assert [each["iteration"] for each in made] == list(range(evaluations))
    ids = [each["candidates"][0] for each in made]
    assert len({*ids}) == evaluations
    for number, each in enumerate(made):
        assert sorted(each["observed"] + each["pending"] + each["failed"]) == sorted(ids[:number])
    replayed = workflow.bambo("replay", "results/small")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert (
        f"free: {len(proposals(workflow))} decisions, {len(proposals(workflow))} equal, 0 " in replayed.stdout
    )
    checked = workflow.bambo("check", "results/small")
    assert checked.returncode == 0, checked.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A run that has ended."""
    workflow = Workflow(tmp_path_factory.mktemp("whole"), config({}))
    workflow.output = workflow.succeed()
    return workflow


def test_a_whole_run(whole: Workflow) -> None:
    assert_sound(whole)
    made = in_order(whole)
    assert [each["origin"] for each in made[:INITIAL]] == [["all-0"], ["all-1"], ["balanced"], ["sobol"]]
    assert any(each["pending"] for each in made[INITIAL:])
    assert all(len(each["pending"]) < SLOTS for each in made)
    observations = whole.table("observations").query("search == 'free'")
    assert observations["iteration"].tolist() == [str(t) for t in range(EVALUATIONS)]
    assert f"free, iteration 9: {EVALUATIONS} of {EVALUATIONS} evaluations" in whole.output
    shown = whole.bambo("status", "results/small").stdout
    assert f"free: {EVALUATIONS} done; hypervolume" in shown
    assert all(f"slot {slot}  #" in shown for slot in range(SLOTS))
    assert "Nothing to be done" in whole.succeed("--dry-run")


def test_a_larger_budget_and_other_slots_do_what_is_new_alone(whole: Workflow, tmp_path: Path) -> None:
    shutil.copytree(whole.folder, tmp_path / "copy")
    workflow = Workflow(tmp_path / "copy", config({}))
    budget = EVALUATIONS
    # More slots; then fewer than have begun.
    for iterations, slots in [(3, 4), (4, 1)]:
        scores = workflow.scores()
        decided = {path: path.read_bytes() for path in workflow.results.glob("search/free/proposals/*")}
        budget += SLOTS
        workflow.write(config({"iterations": iterations, "slots": slots}))
        workflow.succeed()
        assert workflow.scores().items() > scores.items()
        assert len(workflow.scores()) == len(scores) + SLOTS
        assert {path: path.read_bytes() for path in decided} == decided
        assert_sound(workflow, budget)
        assert len(workflow.table("observations").query("search == 'free'")) == budget
    assert {key[:3] for key in proposals(workflow)} == {"s00", "s01", "s02", "s03"}
    assert "Nothing to be done" in workflow.succeed("--dry-run")


def test_killed_twice_and_no_evaluation_done_twice(tmp_path: Path) -> None:
    given = config({})
    given["evaluation"]["python"] = str(faulty.interpreter(tmp_path, {}))
    workflow = Workflow(tmp_path / "run", given)
    kept: dict[str, bytes] = {}
    first: set[str] = set()
    decided: dict[Path, bytes] = {}
    # With the end points, 11 candidates.
    for begun in (5, 8):
        kill_when(workflow, lambda begun=begun: len({*faulty.started(tmp_path)}) >= begun)
        assert workflow.scores().items() >= kept.items()
        assert {path: path.read_bytes() for path in decided} == decided
        first |= kept.keys()
        kept = workflow.scores()
        decided = {path: path.read_bytes() for path in workflow.results.glob("search/free/proposals/*")}
        workflow.succeed("--unlock")
    assert kept
    assert decided
    workflow.succeed()
    assert workflow.scores().items() >= kept.items()
    assert {path: path.read_bytes() for path in decided} == decided
    assert_sound(workflow)
    counts = Counter(faulty.started(tmp_path))
    assert counts.keys() == workflow.scores().keys()
    # Only what was under way was begun again: no more than there are places for evaluations.
    assert all(counts[id] == 1 for id in first)
    assert counts.total() - len(counts) <= 2 * PLACES


def kill_when(workflow: Workflow, condition: Any) -> None:
    """Start Snakemake in a process group of its own, and kill the group once the condition holds."""
    with (workflow.folder / "killed.log").open("a") as log:
        process = subprocess.Popen(
            workflow.command(END),
            cwd=workflow.folder,
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not condition():
        assert process.poll() is None, (workflow.folder / "killed.log").read_text()[-5000:]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("policy", ["continue", "stop"])
def test_a_failure(whole: Workflow, tmp_path: Path, policy: str) -> None:
    [lost] = in_order(whole)[2]["candidates"]
    given = config({"optimiser": "sobol"}, on_failure=policy, retries=0)
    given["evaluation"]["python"] = str(faulty.interpreter(tmp_path, {lost: "exits"}))
    workflow = Workflow(tmp_path / "run", given)
    done = workflow.run(END)
    # The other slots go on to the end of the budget.
    begun = Counter(faulty.started(tmp_path))
    assert len(begun) == EVALUATIONS + 1, done.stdout + done.stderr
    assert set(begun.values()) == {1}
    last = in_order(workflow)[-1]
    assert lost not in last["observed"]
    if policy == "continue":
        assert done.returncode == 0, done.stdout + done.stderr
        # The attempt that records the failure may come after all others.
        assert lost in [*last["failed"], *last["pending"]]
        assert (
            read_record(workflow.results / "candidates" / lost / "scores.json", "scores")["status"]
            == "failed"
        )
        assert_sound(workflow)
    else:
        assert done.returncode == 1
        assert f"candidate {lost}: " in done.stdout + done.stderr
        assert last["failed"] == []
        assert lost not in workflow.scores()

    (tmp_path / "faults.json").write_text("{}")
    decided = {path: path.read_bytes() for path in workflow.results.glob("search/free/proposals/*")}
    forced = workflow.bambo("failed", "results/small").stdout.split()
    workflow.succeed(END, *(["--forcerun", *forced] if policy == "continue" else []))
    assert Counter(faulty.started(tmp_path)) == begun + Counter([lost])
    assert {path: path.read_bytes() for path in decided} == decided
    assert_sound(workflow)
