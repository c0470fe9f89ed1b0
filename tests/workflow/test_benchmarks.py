"""Benchmarks of the hub: downloaded by the first jobs, kept for all candidates."""

import json
from pathlib import Path
from typing import Any

import pytest
from bambo.evaluation.data import data_hash
from hub_data import make_hub
from runs import Workflow, small_config

CANDIDATES = "results/small/endpoints/candidates.json"


def hub_config() -> dict[str, Any]:
    """Both tasks by their names, without data."""
    config = small_config()
    config["evaluation"] |= {
        "tasks": {"gpqa": {"task": "gpqa_diamond"}, "aime": {"task": "aime25"}},
        "max_tokens": 20,
    }
    config["confirm"] = {}  # which names the demo's benchmarks
    return config


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    monkeypatch.setitem(__import__("runs").ENVIRONMENT, "HF_HOME", str(tmp_path / "cache"))
    return Workflow(tmp_path / "work", hub_config())


def test_the_plan_needs_no_data_and_a_start_says_what_is_missing(workflow: Workflow) -> None:
    plan = workflow.succeed("--dry-run")
    assert plan.count("rule benchmark:") == 2
    done = workflow.run("results/small/benchmarks/aime.json")
    assert done.returncode != 0
    # Once as the job ends, and once with its log.
    [line] = {line for line in done.stderr.splitlines() if line.startswith("error: ")}
    assert line.startswith("error: evaluation.tasks.aime.task: math-ai/aime25 is not to be had (")


def test_all_candidates_are_asked_what_the_run_began_with(workflow: Workflow) -> None:
    make_hub(workflow.folder)
    workflow.run(CANDIDATES)
    records = {
        name: json.loads((workflow.results / f"benchmarks/{name}.json").read_text())
        for name in ("gpqa", "aime")
    }
    assert {record["questions"] for record in records.values()} == {12}
    [recipe, *others] = [
        json.loads(path.read_text()) for path in workflow.results.glob("candidates/*/recipe.json")
    ]
    assert len(others) == 2
    for name, record in records.items():
        task = recipe["evaluation"]["tasks"][name]
        assert task["data"] == f"results/small/benchmarks/{name}"
        assert task["data_hash"] == record["data_hash"] == data_hash(workflow.folder / task["data"])
    # The hub moves on; the run does not, even where it is forced to begin anew.
    for path in (workflow.folder / "math-ai/aime25").iterdir():
        path.write_text(path.read_text().replace('"answer": "6"', '"answer": "7"'))
    workflow.run(CANDIDATES, "--forceall")
    assert json.loads((workflow.results / "benchmarks/aime.json").read_text()) == records["aime"]


def test_a_simulated_run_needs_no_data(workflow: Workflow) -> None:
    config = hub_config()
    config["evaluation"]["engine"] = "simulated"
    workflow.write(config)
    assert "rule benchmark:" not in workflow.succeed("--dry-run")
