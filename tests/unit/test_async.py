"""An asynchronous search, decision by decision: what each sees, what it asks for, when it stops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bambo.candidate.folder import write_failure
from bambo.records import write_record
from bambo.run import Run
from bambo.search.decision import decide
from bambo.search.design import initial
from bambo.search.ledger import propose, read_seen, see
from bambo.search.presets import PRESETS
from bambo.search.proposals import (
    Place,
    in_order,
    key_of,
    left_behind,
    place_of,
    proposal_path,
    read_proposals,
)
from bambo.search.stopping import budget
from fake_run import OBJECTIVES, REFERENCE_POINT, VARIABLES
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ledger import CHEAP, make_run, scale, score

# 4 + 4 x 2 evaluations. How points are chosen matters in few tests, and takes time.
SURROGATE = {**PRESETS["bambo-robust"], **CHEAP, "schedule": "async"}
SETTINGS = SURROGATE | {"optimiser": "sobol"}


def ask(run: Run, key: str, **changes: Any) -> dict[str, Any]:
    """Decide what a slot does next, and write it; nothing is scored."""
    proposal = propose(
        run,
        "blocks",
        key,
        settings=SETTINGS | changes,
        settings_hash="0",
        variables=VARIABLES["blocks"],
        normalisation=scale(run),
        reference=REFERENCE_POINT,
    )
    write_record(proposal_path(run.folder, "blocks", key), "proposal", proposal)
    return proposal


def handed_out(run: Run, count: int, slots: int = 2, **changes: Any) -> list[dict[str, Any]]:
    """So many decisions, slot after slot, all scored but the last of each slot."""
    made: list[dict[str, Any]] = []
    for number in range(count):
        step, slot = divmod(number, slots)
        if step:
            score(run, made[number - slots]["candidates"])
        made.append(ask(run, f"s{slot:02d}k{step:03d}", **changes))
    return made


@given(st.integers(-1, 2000), st.integers(0, 12000))
def test_keys_name_places(slot: int, step: int) -> None:
    place = Place(slot, step)
    assert place_of(place.key) == place
    record = {"iteration": step} if slot < 0 else {"slot": slot, "step": step, "iteration": 0}
    assert key_of(record) == place.key


def test_candidates_are_handed_out_one_by_one(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    made = handed_out(run, 7)
    assert [proposal["iteration"] for proposal in made] == list(range(7))
    assert [len(proposal["candidates"]) for proposal in made] == [1] * 7
    assert [p["origin"] for p in made] == [
        ["all-0"],
        ["all-1"],
        ["balanced"],
        ["sobol"],
        *[["acquisition"]] * 3,
    ]
    points, _ = initial(SETTINGS, VARIABLES["blocks"], list(run.sources), 4)
    assert [proposal["variables"][0] for proposal in made[:4]] == points.tolist()
    ids = [proposal["candidates"][0] for proposal in made]
    assert len({*ids}) == 7
    # The ends are scored already; the others are once their slot goes on.
    assert (made[4]["observed"], made[4]["pending"]) == (ids[:3], ids[3:4])
    assert (made[6]["observed"], made[6]["pending"]) == (ids[:5], ids[5:6])
    assert made[6]["iterations"] == budget(SETTINGS) == 12


def test_the_initial_design_waits_for_nobody(tmp_path: Path) -> None:
    made = [ask(make_run(tmp_path), f"s{slot:02d}k000") for slot in range(4)]
    assert [proposal["iteration"] for proposal in made] == [0, 1, 2, 3]
    assert made[3]["pending"] == made[2]["candidates"]


def test_too_few_observations_are_made_up_by_a_longer_design(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    scale(run)
    for name in run.sources:  # as if they had not been scored yet
        (run.folder / "candidates" / run.source_recipe(name)["id"] / "scores.json").unlink()
    rows = [[0.1] * 8, [0.2] * 8, [0.3] * 8, [0.4] * 8]
    proposals = [{"candidates": [str(t)], "variables": [x], "iteration": t} for t, x in enumerate(rows)]
    seen = see(4, proposals, {}, 8, SETTINGS, scale(run))
    made = decide(seen, SETTINGS, VARIABLES["blocks"], list(run.sources), list(OBJECTIVES), REFERENCE_POINT)
    longer, _ = initial(SETTINGS, VARIABLES["blocks"], list(run.sources), 5)
    assert made.points.tolist() == longer[4:].tolist()
    assert made.origins == ["sobol"]
    grid = SETTINGS | {"initial": "grid", "weights": [0.2, 0.4, 0.6, 0.8]}
    again = decide(seen, grid, VARIABLES["blocks"], list(run.sources), list(OBJECTIVES), REFERENCE_POINT)
    assert again.points.tolist() == longer[4:].tolist()


def test_what_is_under_way_counts_in_the_acquisition(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    handed_out(run, 6)
    seen = read_seen(run, "blocks", place_of("s00k003"), 8, SETTINGS, scale(run))
    assert seen.states == ["observed"] * 4 + ["pending"] * 2
    others = replace(seen, states=["observed"] * 4 + ["failed"] * 2)
    one, two = (
        decide(each, SURROGATE, VARIABLES["blocks"], list(run.sources), list(OBJECTIVES), REFERENCE_POINT)
        for each in (seen, others)
    )
    assert one.points.tolist() != two.points.tolist()


def test_the_budget_is_of_all_slots_together(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    made = handed_out(run, 9, evaluations=7)
    assert [proposal["stop"] for proposal in made] == [None] * 7 + ["budget"] * 2
    assert [proposal["iteration"] for proposal in made[7:]] == [7, 7]
    assert sum(len(proposal["candidates"]) for proposal in made) == 7
    # A larger one goes on with the same numbers.
    further = ask(run, "s00k005", evaluations=8)
    assert (further["iteration"], further["stop"], further["iterations"]) == (7, None, 8)
    assert [p["iteration"] for p in in_order(read_proposals(run.folder, "blocks"))] == [*range(7), 7, 7, 7]


def test_a_failed_candidate_is_no_observation_and_its_slot_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    made = handed_out(run, 4)
    [lost] = made[2]["candidates"]
    write_failure(run.folder / "candidates" / lost, "out of memory", "no memory left", 3)
    further = ask(run, "s00k002")
    assert further["failed"] == [lost]
    assert lost not in [*further["observed"], *further["pending"], *further["candidates"]]


def test_all_slots_stop_once_the_hypervolume_has_not_grown(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    stop = {"growth": 1e6, "iterations": 2}
    made = handed_out(run, 7, stop=stop)
    assert [proposal["stop"] for proposal in made] == [None] * 7  # two evaluations after the initial design
    score(run, made[5]["candidates"])
    ended = ask(run, "s01k003", stop=stop)
    assert (ended["stop"], ended["ended"], ended["candidates"]) == ("hypervolume", False, [])
    # The last evaluation under way changes nothing in that, whatever comes of it; a larger budget does.
    score(run, made[6]["candidates"])
    other = ask(run, "s00k004", stop={"growth": 0.0, "iterations": 100})
    assert (other["stop"], other["ended"]) == ("hypervolume", True)
    assert ask(run, "s00k005", stop={"growth": 0.0, "iterations": 100}, iterations=5)["stop"] is None


def test_iterations_of_the_stop_rule_are_evaluations(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    made = handed_out(run, 5)
    stop = {"growth": 1e6, "iterations": 1}
    assert ask(run, "s01k002", stop=stop)["stop"] is None  # the initial design alone
    score(run, [*made[3]["candidates"], *made[4]["candidates"]])
    assert ask(run, "s00k003", stop=stop)["stop"] == "hypervolume"


def test_a_damaged_decision_is_passed_over_and_its_number_is_taken_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    made = handed_out(run, 6)
    path = proposal_path(run.folder, "blocks", "s01k001")
    path.write_bytes(path.read_bytes()[:-20])
    further = ask(run, "s00k003")
    assert "s01k001 is damaged" in capsys.readouterr().err
    assert further["iteration"] == made[3]["iteration"] == 3
    assert further["origin"] == ["sobol"]  # the initial design is whole again
    assert ask(run, "s01k001")["iteration"] == 6


def test_candidates_of_slots_that_are_no_more(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    made = [ask(run, f"s{slot:02d}k000") for slot in range(3)]
    assert left_behind(run.folder, "blocks", 3) == []
    assert left_behind(run.folder, "blocks", 1) == made[1]["candidates"] + made[2]["candidates"]


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(6)), st.integers(0, 6))
def test_what_is_seen_does_not_depend_on_the_order_in_which_files_are_read(
    order: list[int], scored: int
) -> None:
    proposals = {
        Place(t % 2, t // 2): {"iteration": t, "candidates": [str(t)], "variables": [[t / 10] * 8]}
        for t in range(6)
    }
    shuffled = {[*proposals][place]: [*proposals.values()][place] for place in order}
    scores = {str(t): {"status": "failed"} for t in range(scored)}
    seen = see(6, in_order(shuffled), scores, 8, SETTINGS, {"objectives": {"one": {}}})
    assert seen.ids == [str(t) for t in range(6)]
    np.testing.assert_array_equal(seen.points[:, 0], np.arange(6) / 10)
    assert seen.states == ["failed"] * scored + ["pending"] * (6 - scored)
