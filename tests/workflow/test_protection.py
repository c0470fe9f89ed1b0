"""What must not happen to a run: damage that is used, two processes at once, a disk that fills up unseen."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import faulty
import pytest
from bambo.records import read_record
from runs import ENVIRONMENT, Workflow, small_config


@pytest.fixture
def copy(finished: Workflow, tmp_path: Path) -> Workflow:
    """The finished run in a folder of its own, with every time stamp kept, and evaluations counted."""
    shutil.copytree(finished.folder, tmp_path / "copy", copy_function=shutil.copy2)
    start = tmp_path / "copy/results/small/run.json"
    start.write_text(start.read_text().replace(str(finished.folder), str(tmp_path / "copy")))
    config = small_config()
    config["evaluation"]["python"] = str(faulty.interpreter(tmp_path, {}))
    return Workflow(tmp_path / "copy", config)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def newer(path: Path) -> None:
    path.write_text(path.read_text().replace('/1"', '/2"', 1))


def repair(workflow: Workflow, printed: str) -> None:
    """Run the command that `bambo check` printed."""
    [line] = [line for line in printed.splitlines() if "--forcerun" in line]
    here = str(Path(sys.executable).parent)
    done = subprocess.run(
        line,
        shell=True,
        cwd=workflow.folder,
        env={**ENVIRONMENT, "PATH": f"{here}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_damage_is_seen_and_repaired_by_the_printed_command(copy: Workflow, tmp_path: Path) -> None:
    before = copy.scores()
    last = copy.results / "search/blocks/proposals/t002.json"
    first, second, third = read_record(last.with_name("t000.json"), "proposal")["candidates"][1:]
    candidates = copy.results / "candidates"
    decision = last.read_bytes()
    truncate(candidates / first / "scores.json")
    newer(candidates / second / "scores.json")
    flip(candidates / third / "samples.parquet")
    flip(last)
    found = copy.bambo("check", "results/small")
    assert found.returncode == 1
    for place in [f"{first}/scores.json: damaged", f"{second}/scores.json: its format is 'scores/2'"]:
        assert place in found.stdout
    for place in [f"{third}/samples.parquet: damaged", "t002.json: damaged"]:
        assert place in found.stdout

    # More iterations need them: the run stops at the first one that it reads.
    config = small_config()
    config["searches"]["blocks"]["iterations"] = 3
    copy.write(config)
    done = copy.run()
    assert done.returncode == 1
    shown = done.stdout + done.stderr
    assert f"{first}/scores.json: damaged" in shown
    assert "bambo check" in shown
    assert "Traceback" not in shown

    config = small_config()
    config["evaluation"]["python"] = str(tmp_path / "python")
    copy.write(config)
    repair(copy, found.stdout)
    assert sorted(faulty.started(tmp_path)) == sorted([first, second, third])
    assert last.read_bytes() == decision
    after = copy.scores()
    assert {id for id in before if before[id] != after[id]} == {first, second, third}
    assert copy.bambo("check", "results/small").stdout.endswith("all whole\n")
    assert "Nothing to be done" in copy.succeed("--dry-run")


def test_a_damaged_score_stops_what_reads_it(copy: Workflow) -> None:
    candidate = read_record(copy.results / "search/blocks/proposals/t001.json", "proposal")["candidates"][0]
    flip(copy.results / "candidates" / candidate / "scores.json")
    done = copy.run("--forcerun", "tables")
    assert done.returncode == 1
    assert f"{candidate}/scores.json: damaged" in done.stdout + done.stderr


def test_a_lost_recipe_comes_back(copy: Workflow) -> None:
    scores = copy.scores()
    candidate = read_record(copy.results / "search/blocks/proposals/t001.json", "proposal")["candidates"][0]
    recipe = copy.results / "candidates" / candidate / "recipe.json"
    text = recipe.read_bytes()
    recipe.unlink()
    found = copy.bambo("check", "results/small")
    assert f"{candidate}/recipe.json: missing" in found.stdout
    repair(copy, found.stdout)
    assert recipe.read_bytes() == text
    assert copy.bambo("check", "results/small").returncode == 0
    assert copy.scores() == scores


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[Workflow]:
    """A run that is under way."""
    workflow = Workflow(tmp_path / "first", small_config())
    with (workflow.folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(
            workflow.command(),
            cwd=workflow.folder,
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not list(workflow.results.glob(".lease.*")):
        assert process.poll() is None
        time.sleep(0.1)
    workflow.process = process
    yield workflow
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_two_processes_exclude_each_other(at_work: Workflow, tmp_path: Path) -> None:
    pid = at_work.process.pid
    # In the same folder, Snakemake's own lock refuses; we say who holds it.
    done = at_work.run()
    assert done.returncode == 1
    assert f"process {pid} on" in done.stderr
    # From another checkout whose results lie in the same place.
    other = Workflow(tmp_path / "second", small_config())
    (other.folder / "results").symlink_to(at_work.folder / "results")
    done = other.run()
    assert done.returncode == 1
    assert f"error: results/small: process {pid} on" in done.stderr
    assert "is at work on this run" in done.stderr
    assert f"at work: process {pid}" in at_work.bambo("status", "results/small").stdout
    # After its death nobody has to wait.
    os.killpg(pid, signal.SIGKILL)
    at_work.process.wait()
    other.succeed("--unlock")
    other.succeed()


def test_few_models_are_on_the_disk_at_a_time(tmp_path: Path) -> None:
    places = 3
    config = small_config()
    config["searches"] = {"single": {"preset": "model-grid", "weights": [0.2, 0.4, 0.6, 0.8]}}
    workflow = Workflow(tmp_path / "run", config)
    command = [*workflow.command(), "--cores", str(places)]
    with (workflow.folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(command, cwd=workflow.folder, env=ENVIRONMENT, stdout=log, stderr=log)
    most = 0
    while process.poll() is None:
        models = [
            *workflow.results.glob("candidates/*/model"),
            *workflow.results.glob("candidates/*/.model.*.tmp"),
        ]
        most = max(most, len(models))
        time.sleep(0.01)
    assert process.returncode == 0
    assert 1 <= most <= places + 1
    assert not list(workflow.results.glob("candidates/*/model"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own."""
    place = tmp_path / "run/results"
    place.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("mounting a file system needs more rights")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_stops_the_run_and_nothing_is_lost(small_disk: Path, finished: Workflow) -> None:
    config = small_config(retries=0, on_failure="continue")
    workflow = Workflow(small_disk.parent, config)
    with (workflow.folder / "snakemake.log").open("w+") as log:
        process = subprocess.Popen(
            workflow.command(), cwd=workflow.folder, env=ENVIRONMENT, stdout=log, stderr=log
        )
        while len(workflow.scores()) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        with suppress(OSError), (small_disk / "ballast").open("wb") as ballast:
            while True:
                ballast.write(bytes(4096))
                ballast.flush()
        assert process.wait() == 1
        log.seek(0)
        shown = log.read()
    assert "No space left on device; free space" in shown
    scores = workflow.scores()
    (small_disk / "ballast").unlink()
    workflow.succeed("--unlock")
    workflow.succeed()
    assert workflow.scores().items() >= scores.items()
    assert (workflow.table("observations")["status"] == "ok").all()
    assert set(workflow.scores()) == set(finished.scores())


def test_a_disk_that_is_too_small_is_refused_before_the_start(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(6_000_000))
    done = Workflow(small_disk.parent, small_config()).run()
    assert done.returncode == 1
    assert "error: results/small:" in done.stderr
    assert "merged models of" in done.stderr


def test_results_on_a_scratch_folder_that_is_gone(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path / "run", small_config())
    (workflow.folder / "results").symlink_to(tmp_path / "scratch")
    done = workflow.run()
    assert done.returncode == 1
    assert f"a link to {tmp_path / 'scratch'}, which is gone" in done.stderr
