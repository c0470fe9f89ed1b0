"""Real runs in which candidates are asked a share of the questions first."""

from pathlib import Path
from typing import Any

import pandas as pd
from bambo.files import read_json
from bambo.records import read_record
from runs import Workflow, small_config

SIMULATED = {"engine": "simulated", "limit": 200, "first_share": 0.3}


def staged_config(**searches: Any) -> dict[str, Any]:
    config = small_config()
    config["evaluation"] |= SIMULATED
    # Random points: many are dominated.
    cheap = {
        "preset": "sobol",
        "granularity": "block",
        "n_initial": 6,
        "iterations": 1,
        "batch_size": 6,
        "leave": 0.6,
    }
    return config | {"searches": {name: cheap | own for name, own in searches.items()}}


def records(workflow: Workflow, search: str, kind: str) -> list[dict[str, Any]]:
    paths = sorted((workflow.results / "search" / search / f"{kind}s").glob("*.json"))
    return [read_record(path, kind) for path in paths]


def test_who_is_promoted_answers_the_rest_and_who_is_left_does_not(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path, staged_config(sync={}, slots={"schedule": "async", "seed": 1}))
    workflow.succeed()
    table = pd.read_parquet(workflow.results / "tables" / "observations.parquet")
    for search in ("sync", "slots"):
        proposals, promotions = records(workflow, search, "proposal"), records(workflow, search, "promotion")
        first = [id for proposal in proposals for id in proposal["whole"]]
        promoted = [id for record in promotions for id in record["candidates"]]
        left = [id for record in promotions for id in record["left"]]
        assert len(first) == 10  # all of 12 but the end points
        assert len(promoted) + len(left) == len(first)
        assert promoted
        # Slots of a busy machine may decide on all before there is much of a front.
        assert left or search == "slots"
        rows = table[table["search"] == search].set_index("candidate")
        assert len(rows) == 12
        assert (rows.loc[promoted, "status"] == "ok").all()
        assert (rows.loc[left, "status"] == "left").all()
        front = workflow.table("pareto")
        assert not set(left) & set(front["candidate"])
        # What was left is known to later proposals.
        assert set(proposals[-1]["left"]) <= set(left)
        for id in promoted:
            scores = read_json(workflow.results / "candidates" / id / "scores.json")
            assert {part["questions"] for part in scores["benchmarks"].values()} == {200}
        for id in left:
            scores = read_json(workflow.results / "candidates" / id / "scores.json")
            assert {part["questions"] for part in scores["benchmarks"].values()} == {60}

    before = workflow.scores()
    assert "Nothing to be done" in workflow.succeed("-n")
    workflow.succeed("-F")  # everything again: no decision and no evaluation is
    assert workflow.scores() == before
    replayed = workflow.bambo("replay", str(workflow.results.relative_to(tmp_path)))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert workflow.bambo("check", str(workflow.results)).returncode == 0
    status = workflow.bambo("status", str(workflow.results))
    assert status.returncode == 0, status.stderr


def test_a_share_without_a_search_that_uses_it_is_refused(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path, staged_config(sync={"leave": None}))
    done = workflow.run("-n")
    assert done.returncode != 0
    assert "evaluation.first_share: of no use without a search with leave" in done.stderr + done.stdout
