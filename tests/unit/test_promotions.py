"""Searches in two stages, decision by decision, with simulated answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bambo.errors import BadInput
from bambo.evaluation.simulated import simulate
from bambo.files import read_json
from bambo.objectives import evaluate as objectives
from bambo.objectives import normalisation
from bambo.recipe import whole
from bambo.records import write_record
from bambo.run import Run
from bambo.search.decision import LEFT, OBSERVED, PENDING
from bambo.search.ledger import propose, read_seen
from bambo.search.presets import PRESETS
from bambo.search.promotions import (
    again,
    left_in,
    promote,
    promotion_paths,
    read_promotions,
    settled,
)
from bambo.search.proposals import iteration_key, place_of, proposal_path
from fake_run import GROUPS, OBJECTIVES, REFERENCE_POINT, VARIABLES

# Random points: many are dominated.
SETTINGS = {**PRESETS["sobol"], "n_initial": 8, "batch_size": 12, "iterations": 4, "leave": 0.7}
TASKS = {name: {"max_tokens": 1000} for name in ("one", "two")}
EVALUATION = {
    "engine": "simulated",
    "seed": 0,
    "repeats": 1,
    "limit": 300,
    "sampling": {},
    "tasks": TASKS,
    "first_share": 0.3,
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    source = {"path": "resources/models/instruct", "sample": "0"}
    made = Run(
        folder=tmp_path,
        sources={name: {**source, "fingerprint": name} for name in ("thinking", "instruct")},
        groups=GROUPS,
        files_from="instruct",
        evaluation=EVALUATION,
        end_point_evaluation=EVALUATION,
    )
    for name in made.sources:
        evaluate(made, [made.add(made.source_recipe(name))])
    return made


def evaluate(run: Run, ids: list[str]) -> None:
    for id in ids:
        folder = run.folder / "candidates" / id
        if not (folder / "scores.json").exists():
            simulate(read_json(folder / "recipe.json"), folder)


def scale(run: Run) -> dict[str, Any]:
    ends = {name: run.scores(run.source_recipe(name)["id"]) for name in run.sources}
    return normalisation(OBJECTIVES, ends)


def ask(run: Run, iteration: int, settings: dict[str, Any] = SETTINGS) -> dict[str, Any]:
    proposal = propose(
        run,
        "blocks",
        iteration_key(iteration),
        settings=settings,
        settings_hash="0",
        variables=VARIABLES["blocks"],
        normalisation=scale(run),
        reference=REFERENCE_POINT,
    )
    write_record(proposal_path(run.folder, "blocks", iteration_key(iteration)), "proposal", proposal)
    return proposal


def decide(run: Run, proposal: dict[str, Any], settings: dict[str, Any] = SETTINGS) -> dict[str, Any]:
    key = iteration_key(proposal["iteration"])
    record = promote(run, "blocks", key, proposal, settings, scale(run))
    path = run.folder / "search" / "blocks" / "promotions" / f"{key}.json"
    write_record(path, "promotion", record)
    return record


def step(run: Run, iteration: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask, evaluate the first stages, decide, evaluate the rest."""
    proposal = ask(run, iteration)
    evaluate(run, proposal["candidates"])
    record = decide(run, proposal)
    evaluate(run, record["candidates"])
    return proposal, record


def seen(run: Run, iteration: int) -> Any:
    place = place_of(iteration_key(iteration))
    return read_seen(run, "blocks", place, len(VARIABLES["blocks"]), SETTINGS, scale(run))


def test_a_search_in_two_stages(run: Run) -> None:
    (first, record), (second, later) = step(run, 0), step(run, 1)
    ends = [run.source_recipe(name)["id"] for name in ("instruct", "thinking")]
    assert first["candidates"][:2] == ends
    assert list(first["whole"]) == first["candidates"][2:]  # all of the end points is known
    assert set(record["compared"]) == set(ends)
    assert set(later["compared"]) == {*ends, *record["candidates"]}
    for proposal, own in ((first, record), (second, later)):
        assert {*own["promoted"], *own["left"]} == set(proposal["whole"])
        assert own["candidates"] == [proposal["whole"][id] for id in own["promoted"]]
        assert all(each["probability"] < 0.7 for each in own["promoted"].values())
        assert all(each["probability"] >= 0.7 for each in own["left"].values())
    assert later["left"]
    assert later["promoted"]
    third = ask(run, 2)
    assert third["left"] == [*record["left"], *later["left"]]
    asked = [*first["candidates"], *second["candidates"]]
    assert third["observed"] == [id for id in asked if id not in third["left"]]


def test_what_was_left_is_known_with_a_larger_error(run: Run) -> None:
    step(run, 0)
    proposal, record = step(run, 1)
    found = seen(run, 2)
    assert found.of(LEFT) == list(record["left"])
    assert found.of(PENDING) == []
    assert len(found.of(OBSERVED)) == len(found.values.Y)
    assert len(found.left.Y) == len(record["left"])
    assert found.left.repeat_variance.mean() > 2 * found.values.repeat_variance.mean()
    # A whole evaluation agrees with what was estimated.
    for id, own in record["left"].items():
        run.add(whole(read_json(run.folder / "candidates" / id / "recipe.json")))
        evaluate(run, [proposal["whole"][id]])
        true = objectives([run.scores(proposal["whole"][id])], scale(run)).Y[0]
        assert np.abs(np.array(own["objectives"]) - true).max() < 4 * np.sqrt(np.max(own["variance"]))


def test_nothing_is_observed_before_it_is_decided(run: Run) -> None:
    proposal = ask(run, 0)
    evaluate(run, proposal["candidates"])
    found = seen(run, 1)
    assert found.of(PENDING) == list(proposal["whole"])
    record = decide(run, proposal)
    evaluate(run, record["candidates"][:1])
    with pytest.raises(BadInput, match=r"scores\.json"):  # a batch waits for all of it
        seen(run, 1)


def test_a_first_stage_that_failed_is_neither_promoted_nor_left(run: Run) -> None:
    from bambo.candidate.folder import write_failure

    proposal = ask(run, 0)
    lost = proposal["candidates"][-1]
    evaluate(run, proposal["candidates"][:-1])
    write_failure(run.folder / "candidates" / lost, "out of memory", "no memory left", 3)
    record = decide(run, proposal)
    assert record["failed"] == [lost]
    evaluate(run, record["candidates"])
    assert seen(run, 1).of("failed") == [lost]
    assert settled([proposal], [record])[0]["candidates"][-1] == lost


def test_a_decision_is_made_again_from_what_it_saw(run: Run) -> None:
    step(run, 0)
    proposal, record = step(run, 1)
    step(run, 2)
    assert again(run, record, proposal, SETTINGS, scale(run)) == record
    other = again(run, {**record, "compared": record["compared"][:2]}, proposal, SETTINGS, scale(run))
    assert other["left"] != record["left"]


def test_tables_see_what_first_stages_became(run: Run) -> None:
    proposal, record = step(run, 0)
    (found,) = settled([proposal], [record])
    assert set(found["candidates"]) == {*proposal["candidates"][:2], *record["candidates"], *record["left"]}
    assert len(found["variables"]) == len(found["origin"]) == len(proposal["candidates"])
    (undecided,) = settled([proposal], [])
    assert undecided["candidates"] == proposal["candidates"][:2]
    assert left_in([record]) == record["left"]


def test_a_damaged_record_is_passed_over(run: Run) -> None:
    step(run, 0)
    (path,) = promotion_paths(run.folder, "blocks")
    path.write_text(path.read_text().replace("blocks", "blanks"))
    assert read_promotions(run.folder, "blocks") == {}


def test_what_another_search_asked_everything_has_no_first_stage(run: Run) -> None:
    plain = {**SETTINGS, "leave": None}
    asked = ask(run, 0, plain)
    assert "whole" not in asked
    evaluate(run, asked["candidates"])
    assert ask(run, 0)["whole"] == {}
