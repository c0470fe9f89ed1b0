"""What status, check, cost, preflight and config say of asynchronous searches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bambo.config import iterations, load, search_settings
from bambo.cost import Estimate, Given, stages
from bambo.errors import BadInput
from bambo.evaluation.simulated import duration
from bambo.files import read_json, write_json
from bambo.integrity import check_run
from bambo.preflight import parallel_evaluations, slot_notes
from bambo.report import tables
from bambo.report.cost import cost_text
from bambo.report.status import status_text
from bambo.report.summary import print_progress
from bambo.search.proposals import Place, proposal_path
from demo_config import demo
from hypothesis import given
from hypothesis import strategies as st
from simulated_run import SimulatedRun, absolute

SEARCH = {"schedule": "async", "optimiser": "sobol", "n_initial": 4, "iterations": 2, "batch_size": 3}


def config(**search: Any) -> dict[str, Any]:
    return absolute(run="made", searches={"free": SEARCH | search})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedRun:
    """A run in which three slots have asked twice, and the second candidate of each is under way."""
    monkeypatch.chdir(tmp_path)
    made = SimulatedRun(config())
    record = {"command": ["snakemake"], "started": "today", "parallel": 3, "config": config()}
    write_json(made.folder / "run.json", record)
    for slot in range(3):
        for id in made.ask("free", Place(slot, 0))["candidates"]:
            made.score(id)
    for slot in range(3):
        made.ask("free", Place(slot, 1))
    return made


def test_status_shows_slots(run: SimulatedRun) -> None:
    text = status_text(run.folder)
    assert "free: 3 done, 3 pending, 4 planned; hypervolume" in text
    assert "  slot 0   #.\n  slot 1   #.\n  slot 2   #.\n  to come  ----\n" in text
    path = proposal_path(run.folder, "free", "s01k001")
    path.write_bytes(path.read_bytes()[:-5])
    assert "  slot 1   #!\n" in status_text(run.folder)


def test_check_reads_slots(run: SimulatedRun) -> None:
    assert not check_run(run.folder).problems
    first, second = (proposal_path(run.folder, "free", key) for key in ("s00k000", "s00k001"))
    [id] = tables.read_run(run.folder, {"free": []}).proposals["free"][2]["candidates"]
    (run.folder / "candidates" / id / "scores.json").unlink()
    [problem] = check_run(run.folder).problems
    assert problem.text.endswith("missing, the search went on from it")
    # The last one of a slot may be under way.
    second.write_bytes(first.read_bytes())
    assert f"{second}: holds s00k000 of search free" in check_run(run.folder).problems[0].text


def test_tables_and_progress_go_by_the_sequence_of_all_slots(
    run: SimulatedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = read_json(run.folder / "search/free/variables.json")["variables"]
    read = tables.read_run(run.folder, {"free": variables})
    rows = tables.observations(read).query("search == 'free'")
    assert rows["iteration"].tolist() == [0, 1, 2]
    settings = search_settings(run.config, "free")
    print_progress(run.folder, "free", settings, run.config.reference_point, before=6)
    assert "free, iteration 2: 3 of 10 evaluations" in capsys.readouterr().out
    with pytest.raises(BadInput, match=r"no scores\.json"):  # at the end all must be there
        print_progress(run.folder, "free", settings, run.config.reference_point)


def test_the_budget_counts_evaluations() -> None:
    assert iterations(load(config()), "free") == 10
    assert iterations(load(config(evaluations=8)), "free") == 8
    # A batch means nothing where candidates are handed out one by one.
    assert iterations(load(config(evaluations=5, batch_size=64)), "free") == 5


def test_cost_reckons_waves_of_slots() -> None:
    waves = stages(load(config(slots=4)))["free"]
    assert [stage.evaluations for stage in waves] == [2, 4, 2]  # the end points are there
    assert "free 4 + 6 in 4 slots (2 of them end points or shared)" in cost_text(
        load(config(slots=4)), Given()
    )
    assert Estimate(load(config(slots=4)), Given()).parallel == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 0}, "searches.free.slots: found 0, expected null or a whole number of at least 1"),
        (
            {"slots": 11},
            "searches.free.slots: found 11, expected at most the search's 10 evaluations; lower it",
        ),
        (
            {"slots": 2, "schedule": "sync"},
            "searches.free.slots: of no use with schedule: sync; remove it, or set schedule: async",
        ),
    ],
)
def test_bad_slots(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as raised:
        load(config(**changes))
    assert str(raised.value).startswith(message)


def test_jobs_of_several_candidates_are_of_no_use() -> None:
    given = config()
    given["evaluation"]["candidates_per_job"] = 2
    given["merge"] = {"materialize": False}
    with pytest.raises(
        BadInput, match=r"evaluation\.candidates_per_job: found 2, of no use where all searches"
    ):
        load(given)
    given["searches"]["other"] = {}
    assert load(given).evaluation.candidates_per_job == 2


def test_durations_are_of_the_simulator_alone() -> None:
    with pytest.raises(BadInput, match=r"evaluation\.simulated: of no use with engine: hf; remove it"):
        load(demo(evaluation__simulated={"seconds": 1}))


def test_more_slots_than_places_are_noted() -> None:
    made = load(config(slots=8))
    places = parallel_evaluations(made, 2, None, {})
    assert places.count == 2
    [note] = slot_notes(made, places.count)
    assert note.startswith("searches.free: 8 slots, but 2 evaluations at a time")
    assert parallel_evaluations(made, 64, None, {}).count == 8 + 3
    assert slot_notes(made, 8) == []


@given(st.text("0123456789abcdef", min_size=12, max_size=12), st.floats(0.1, 100))
def test_durations_go_by_the_id(id: str, seconds: float) -> None:
    assert duration(id, seconds, 0.8) == pytest.approx(seconds * duration(id, 1.0, 0.8))
    assert duration(id, seconds, 0.0) == pytest.approx(seconds)


def test_durations_are_log_normal() -> None:
    logs = np.log([duration(f"{n:012x}", 60.0, 0.8) for n in range(4000)])
    assert logs.mean() == pytest.approx(np.log(60), abs=0.05)
    assert logs.std() == pytest.approx(0.8, abs=0.03)
