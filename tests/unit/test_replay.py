"""Decisions made anew from what they recorded to have seen."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from bambo.errors import BadInput
from bambo.files import read_json, write_json
from bambo.records import read_record, write_record
from bambo.search.proposals import Place, proposal_path
from bambo.search.replay import print_replay, replay
from simulated_run import SimulatedRun, absolute

CHEAP = {"restarts": 2, "raw_samples": 16, "mc_samples": 16}
SEARCHES = {
    "sync": {"n_initial": 4, "iterations": 2, "batch_size": 2, **CHEAP},
    "free": {"n_initial": 4, "iterations": 2, "batch_size": 2, "schedule": "async", "seed": 1, **CHEAP},
    "single": {"preset": "model-grid", "weights": [0.3, 0.7]},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a run with a search of each kind."""
    folder, before = tmp_path_factory.mktemp("made"), Path.cwd()
    os.chdir(folder)
    try:
        run = SimulatedRun(absolute(run="made", searches=SEARCHES))
        for name in SEARCHES:
            run.search(name)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's folder, in a working directory of its own."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("results/made")


def lines(folder: Path, only: str | None = None) -> list[str]:
    return [str(found) for found in replay(folder, only)]


def changed(folder: Path, search: str, key: str, **values: Any) -> None:
    path = proposal_path(folder, search, key)
    write_record(path, "proposal", read_record(path, "proposal") | values)


def test_all_decisions_are_equal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_replay(folder, None)
    assert capsys.readouterr().out.splitlines() == [
        "sync: 3 decisions, 3 equal, 0 not equal",
        "free: 10 decisions, 10 equal, 0 not equal",
        "single: 1 decision, 1 equal, 0 not equal",
    ]


def test_another_point_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = read_record(proposal_path(folder, "free", "s00k003"), "proposal")
    others = read_record(proposal_path(folder, "sync", "t002"), "proposal")
    changed(folder, "free", "s00k003", variables=others["variables"][:1], candidates=others["candidates"][:1])
    assert not print_replay(folder, "free")
    # What saw the candidate that was there finds its point no more.
    told = capsys.readouterr().out
    assert f"first s00k003: {kept['candidates'][0]}, recorded {others['candidates'][0]}" in told


def test_candidates_that_are_not_the_points(folder: Path) -> None:
    changed(folder, "single", "t000", variables=[[0.3], [0.6]])
    [line] = lines(folder, "single")
    assert line.startswith("single: 1 decision, 0 equal, 1 not equal; first t000: ")


def test_another_reason_to_stop_is_told(folder: Path) -> None:
    changed(folder, "free", "s00k004", stop="hypervolume")
    assert lines(folder, "free") == [
        "free: 10 decisions, 9 equal, 1 not equal; first s00k004: stop: budget, recorded stop: hypervolume"
    ]


@pytest.mark.parametrize("key", ["observed", "pending"])
def test_what_was_seen_decides(folder: Path, key: str) -> None:
    """A surrogate that knows one more or less proposes something else."""
    path = proposal_path(folder, "free", "s00k003")
    record = read_record(path, "proposal")
    [moved] = record[key][-1:]
    kept = {name: [id for id in record[name] if id != moved] for name in ("observed", "pending")}
    changed(folder, "free", "s00k003", **kept, failed=[moved])
    assert "1 not equal; first s00k003" in lines(folder, "free")[0]


def test_scores_that_came_or_were_repaired_later_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = SimulatedRun(absolute(run="made", searches={"free": SEARCHES["free"]}))
    first = [run.ask("free", Place(slot, 0)) for slot in range(4)]
    [lost], [late] = first[2]["candidates"], first[3]["candidates"]
    run.fail(lost)
    assert run.ask("free", Place(0, 1))["failed"] == [lost]
    shutil.rmtree(run.folder / "candidates" / lost)
    run.run.add(run.run.recipe(run.run.everywhere([0.5, 0.5])))
    run.score(lost)
    run.score(late)
    assert lines(run.folder) == ["free: 5 decisions, 5 equal, 0 not equal"]


def test_the_budget_of_the_time_counts(folder: Path) -> None:
    record = read_json(folder / "run.json")
    record["config"]["searches"]["free"]["iterations"] = 9
    record["config"]["searches"]["sync"]["evaluations"] = 6
    write_json(folder / "run.json", record)
    assert all(" 0 not equal" in line for line in lines(folder))


def test_what_is_gone_is_told(folder: Path) -> None:
    [id] = read_record(proposal_path(folder, "free", "s01k001"), "proposal")["candidates"]
    (folder / "candidates" / id / "scores.json").unlink()
    [line] = lines(folder, "free")
    assert f"what it saw of {id} is gone" in line
    path = proposal_path(folder, "sync", "t002")
    path.write_bytes(path.read_bytes()[:-9])
    assert lines(folder, "sync") == ["sync: 3 decisions, 2 equal, 1 not equal; first t002: damaged"]


def test_bad_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="--search: found x, expected one of sync, free, single; correct it"):
        lines(folder, "x")
    record = read_json(folder / "run.json")
    record["config"]["searches"]["free"]["seed"] = 2
    write_json(folder / "run.json", record)
    with pytest.raises(BadInput, match=r"searches\.free: .*searches\.free\.seed: 1 -> 2"):
        lines(folder, "free")
    with pytest.raises(BadInput, match=r"no run\.json"):
        lines(Path("results/other"))
    monkeypatch.chdir(folder)
    with pytest.raises(BadInput, match="expected results/made in the working directory"):
        lines(Path())
