"""The status of a run, from its files alone."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from bambo.candidate import attempts as module
from bambo.candidate.attempts import Attempts, Failure
from bambo.candidate.folder import read_scores
from bambo.candidate.lease import myself
from bambo.errors import BadInput
from bambo.files import read_json, write_json
from bambo.records import read_record, write_record
from bambo.report import fronts, tables
from bambo.report.status import failed, status_text
from demo_config import REMOVED, demo
from fake_run import REFERENCE_POINT, VARIABLES, fail, fake_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 8 + 2 x 4 evaluations and a grid of 9, all done, of a budget of one iteration more."""
    run_dir = fake_run(tmp_path / "results/made-up")
    start(run_dir)
    return run_dir


def start(run_dir: Path, **changes: Any) -> None:
    """Write run.json, of the demo's config with changes."""
    record = {
        "command": ["snakemake", "--profile", "slurm"],
        "started": "2026-11-24 12:00:00",
        "parallel": 4,
        "bambo": "0",
        "config": demo(**{"searches__blocks__iterations": 3, **changes}),
    }
    write_json(run_dir / "run.json", record)


def proposal_path(run: Path, iteration: int) -> Path:
    return run / f"search/blocks/proposals/t{iteration:03d}.json"


def proposed(run: Path, iteration: int) -> list[str]:
    return read_record(proposal_path(run, iteration), "proposal")["candidates"]


def block(run: Path, name: str = "blocks") -> list[str]:
    """The lines about a search, or about the end points."""
    [part] = [part for part in status_text(run).split("\n\n") if part.startswith(f"{name}: ")]
    return part.splitlines()


def rows(run: Path, name: str = "blocks") -> list[str]:
    """The map of a search, one text an iteration."""
    return [line.split()[-1] for line in block(run, name)[1:]]


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    """A living process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def lease(folder: Path, process: psutil.Process | None = None) -> None:
    """Let a process, or this one, be at work in a folder."""
    who = vars(myself())
    if process is not None:
        who = {**who, "pid": process.pid, "started": process.create_time()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".lease.1").write_text(json.dumps(who))


def unscored(run: Path, id: str) -> Path:
    """The folder of a candidate that is made an unscored one."""
    folder = run / "candidates" / id
    (folder / "scores.json").unlink()
    return folder


def try_in_vain(folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float = 60) -> None:
    """Write down an attempt at an evaluation that failed after some time."""
    attempts = Attempts(folder)
    monkeypatch.setattr(module.time, "time", lambda: 1000.0)
    attempts.begin(1, "evaluate")
    monkeypatch.setattr(module.time, "time", lambda: 1000.0 + seconds)
    attempts.end(Failure("error", "it broke"))
    monkeypatch.undo()


def test_done_and_planned(run: Path) -> None:
    assert rows(run) == ["#" * 8, "####", "####", "----"]
    assert rows(run, "single") == ["#" * 9]
    assert rows(run, "end points") == ["###"]
    text = status_text(run)
    assert text.startswith(f"{run}, last started 2026-11-24 12:00:00; no snakemake is at work on it\n")
    assert "blocks: 16 done, 4 planned; hypervolume 0." in text
    assert "# done  > running  x failed  ! damaged  . pending  - planned" in text
    assert "Left: 4 evaluations of about" in text
    assert text.endswith("at 4 at a time")
    assert "Failed" not in text
    assert "check" not in text
    assert "SIMULATED" not in text


def test_objectives_of_two_devices_have_no_hypervolume(run: Path) -> None:
    path = run / "endpoints/normalisation.json"
    scale = read_json(path)
    scale["objectives"]["efficiency"]["device"] = "another"
    write_json(path, scale)
    text = status_text(run)
    assert "blocks: 16 done, 4 planned\n" in text
    assert "hypervolume" not in text


def test_running_failed_damaged_and_pending(run: Path, sleeper: psutil.Process) -> None:
    last = proposed(run, 2)
    fail(run, last[0], "more than\nthere is")
    lease(unscored(run, last[1]), sleeper)
    scores = run / "candidates" / last[2] / "scores.json"
    scores.write_bytes(scores.read_bytes()[:-10])
    unscored(run, last[3])
    assert rows(run) == ["#" * 8, "####", "x>!.", "----"]
    text = status_text(run)
    assert "blocks: 12 done, 1 running, 1 failed, 1 damaged, 1 pending, 4 planned" in text
    assert f"  {last[0]}  out of memory: more than there is" in text
    assert f"  snakemake --profile slurm --forcerun $(bambo failed {run})" in text
    assert f"bambo check {run}" in text
    assert "Left: 6 evaluations" in text


def test_what_is_done_again_is_running(run: Path) -> None:
    first, second, *_ = proposed(run, 1)
    fail(run, first)
    scores = run / "candidates" / second / "scores.json"
    scores.write_bytes(scores.read_bytes()[:-10])
    assert rows(run)[1] == "x!##"
    for id in (first, second):
        lease(run / "candidates" / id)
    assert rows(run)[1] == ">>##"
    with pytest.raises(BadInput, match="nothing has failed"):
        failed(run)


def test_a_proposal_and_a_recipe_that_cannot_be_read(run: Path) -> None:
    shutil.rmtree(run / "candidates" / proposed(run, 2)[1])
    proposal_path(run, 1).write_bytes(proposal_path(run, 1).read_bytes()[:-10])
    assert rows(run) == ["#" * 8, "!!!!", "#!##", "----"]
    assert f"bambo check {run}" in status_text(run)
    assert "hypervolume" in block(run)[0]


def test_a_failure_that_only_the_attempts_tell_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = unscored(run, proposed(run, 2)[1])
    try_in_vain(folder, monkeypatch)
    assert rows(run)[2] == "#x##"
    assert "error: it broke" in status_text(run)
    assert failed(run) == [folder / "scores.json"]
    # While Snakemake is at work, another attempt follows, until the job gives up.
    lease(run)
    assert rows(run)[2] == "#.##"
    Attempts(folder).give_up()
    assert rows(run)[2] == "#x##"
    Attempts(folder).begin(1, "evaluate")
    lease(folder)
    assert rows(run)[2] == "#>##"
    # A kill: nobody is at work, and no end is written down.
    (folder / ".lease.1").unlink()
    (run / ".lease.1").unlink()
    assert rows(run)[2] == "#.##"


def test_failed_candidates_by_name(run: Path) -> None:
    first, second, other, more = proposed(run, 1)
    fail(run, first)
    fail(run, second)
    assert failed(run, [second, second]) == [run / "candidates" / second / "scores.json"]
    assert {path.parent.name for path in failed(run)} == {first, second}
    with pytest.raises(BadInput, match=f"found {other}, {more}, expected failed candidates; "):
        failed(run, [first, other, more])


def test_who_is_at_work(run: Path, sleeper: psutil.Process) -> None:
    lease(run, sleeper)
    assert f"; at work: process {sleeper.pid} on {myself().host}" in status_text(run).splitlines()[0]


def test_hypervolume_is_that_of_the_tables(run: Path) -> None:
    run_of_tables = tables.read_run(run, VARIABLES)
    course = fronts.hypervolume(tables.observations(run_of_tables), REFERENCE_POINT)
    last = course.loc[course["search"] == "blocks", "hypervolume"].iloc[-1]
    assert block(run)[0].endswith(f"; hypervolume {last:.4f}")


def test_hypervolume_is_told_once_it_can_be(run: Path) -> None:
    for id in proposed(run, 2):
        unscored(run, id)
    assert "hypervolume" in block(run)[0]
    for path in (run / "search/blocks/proposals").iterdir():
        path.unlink()
    assert "hypervolume" not in block(run)[0]
    assert "hypervolume" in block(run, "single")[0]
    (run / "endpoints/normalisation.json").unlink()
    assert "hypervolume" not in block(run, "single")[0]


def test_gpu_hours_count_gpus_and_lost_attempts_once_a_candidate(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(run, resources__evaluate__gpu=2)
    folders = list((run / "candidates").iterdir())
    for folder in folders:
        scores = read_scores(folder)
        write_record(folder / "scores.json", "scores", {**scores, "gpus": 2, "seconds": 3600.0})
    try_in_vain(folders[0], monkeypatch, seconds=1800)
    count = len(folders)
    text = status_text(run)
    assert f"Spent: {2 * count + 1:.2f} GPU hours, 1.00 of them on attempts that failed" in text
    assert "Left: 4 evaluations of about 60 min: 8.00 GPU hours, about 60 min at 4 at a time" in text


def test_hours_on_the_cpu(run: Path) -> None:
    seconds = sum(read_scores(folder)["seconds"] for folder in (run / "candidates").iterdir())
    assert f"Spent: {seconds / 3600:.2f} evaluation hours on the CPU\n" in status_text(run)


def test_an_evaluation_of_two_searches_is_left_once(run: Path) -> None:
    # The end points are proposed by the initial design, too.
    shared = set(read_json(run / "endpoints/candidates.json")["end_points"].values())
    assert shared == shared & set(proposed(run, 0))
    for id in shared:
        unscored(run, id)
    assert rows(run, "end points")[0].count(".") == 2
    assert rows(run)[0].count(".") == 2
    assert "Left: 6 evaluations" in status_text(run)


def test_young_runs(tmp_path: Path, run: Path) -> None:
    young = tmp_path / "results/young"
    with pytest.raises(BadInput, match=r"no run\.json"):
        status_text(young)
    with pytest.raises(BadInput, match=r"no run\.json"):
        failed(young)
    start(young)
    assert rows(young) == ["-" * 8, *["----"] * 3]
    text = status_text(young)
    assert "end points" not in text
    assert "blocks: 20 planned\n" in text
    assert text.endswith(
        "Spent: 0.00 evaluation hours\nLeft: 29 evaluations; how long one takes is known after the first"
    )
    # The end points are at work, nothing else is there.
    (young / "endpoints").mkdir()
    shutil.copy(run / "endpoints/candidates.json", young / "endpoints")
    for id in {id for own in read_json(young / "endpoints/candidates.json").values() for id in own.values()}:
        (young / "candidates" / id).mkdir(parents=True)
        shutil.copy(run / "candidates" / id / "recipe.json", young / "candidates" / id)
        lease(young / "candidates" / id)
    assert block(young, "end points") == ["end points: 3 running", "  >>>"]
    with pytest.raises(BadInput, match="nothing has failed"):
        failed(young)


def test_simulated_runs_say_so(run: Path) -> None:
    start(run, evaluation__engine="simulated")
    assert status_text(run).splitlines()[1].startswith("SIMULATED")


def test_a_search_that_stopped_plans_no_more_until_its_budget_is_raised(run: Path) -> None:
    empty = {"candidates": [], "variables": [], "origin": [], "stop": "hypervolume", "iterations": 3}
    path = proposal_path(run, 2)
    write_record(path, "proposal", {**read_record(path, "proposal"), **empty})
    assert rows(run) == ["#" * 8, "####"]
    start(run, searches__blocks__iterations=4)
    assert rows(run) == ["#" * 8, "####", "----", "----"]


def test_the_budget_of_evaluations_cuts_the_last_batch(run: Path) -> None:
    start(run, searches__blocks__iterations=10, searches__blocks__evaluations=22)
    assert rows(run) == ["#" * 8, "####", "####", "----", "--"]


def test_a_lowered_budget_shows_what_it_asks_for(run: Path) -> None:
    start(run, searches__blocks__iterations=1)
    assert rows(run) == ["#" * 8, "####"]


def test_searches_of_the_config_alone_are_shown(run: Path) -> None:
    start(run, searches__single=REMOVED)
    assert "single" not in status_text(run)


def test_long_iterations_and_reasons_are_wrapped(run: Path) -> None:
    id = proposed(run, 1)[0]
    fail(run, id, "very " * 200 + "broken")
    start(run, searches__blocks__iterations=3, searches__blocks__batch_size=100)
    assert max(map(len, status_text(run).splitlines()[1:-5])) <= 110
    assert [line.split()[-1] for line in block(run)[-2:]] == ["-" * 80, "-" * 20]
    assert "very ..." in status_text(run)


def test_files_that_vanish_meanwhile(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run / "candidates" / proposed(run, 1)[0]
    try_in_vain(folder, monkeypatch)
    read_text = Path.read_text

    def vanishing(path: Path, *arguments: Any, **more: Any) -> str:
        if path.name == "attempts.jsonl":
            path.unlink()
        return read_text(path, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", vanishing)
    assert rows(run)[1] == "####"
