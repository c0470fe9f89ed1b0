"""The start of a run: one process at a time, the record of its command, and what it says."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bambo.candidate.lease import hold, holder
from bambo.config import load
from bambo.disk import Space
from bambo.errors import BadInput
from bambo.files import read_json
from bambo.start import check_environment, command, note_if_at_work, notes, read_start
from demo_config import demo

# A process of its own: a start holds its run for as long as its process lives.
STARTING = """
import sys
from bambo import start
from bambo.config import load
from bambo.errors import plain_errors
from demo_config import demo
sys.argv = ["/somewhere/bin/snakemake", "--cores", "2", "-F"]
config = demo(run="small", retries=5)
with plain_errors():
    start.begin(load(config), config, 3, ["one note", "another"])
print("started", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """start() begins the run in a process of its own, which goes on until its input ends."""
    monkeypatch.chdir(tmp_path)
    begun = []

    def run() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", STARTING],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        process.kill()
        process.communicate()


def started(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def test_a_start_holds_the_run_and_leaves_a_record(start: Any) -> None:
    run = Path("results/small")
    process = started(start())
    assert holder(run).pid == process.pid
    record = read_start(run)
    assert record.pop("started").startswith("20")
    assert set(record) == {"command", "parallel", "bambo", "config"}
    assert record["command"] == ["/somewhere/bin/snakemake", "--cores", "2"]
    assert record["parallel"] == 3
    assert record["config"] == demo(run="small", retries=5)
    assert process.communicate("\n") == ("", "one note\nanother\n")
    assert sorted(path.name for path in run.iterdir()) == ["run.json"]


def test_a_second_start_is_told_who_is_at_work(start: Any) -> None:
    first = started(start())
    before = Path("results/small/run.json").read_bytes()
    second = start()
    output, said = second.communicate()
    assert (second.returncode, output) == (1, "")
    assert said.startswith(f"error: results/small: process {first.pid} on {socket.gethostname()} since ")
    assert said.count("\n") == 1
    assert Path("results/small/run.json").read_bytes() == before


def test_a_start_follows_one_that_was_killed(start: Any) -> None:
    first = started(start())
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = started(start())
    assert holder(Path("results/small")).pid == second.pid


def test_a_reader_is_told_who_is_at_work(start: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("results/small")
    note_if_at_work(run)
    with hold(run):
        note_if_at_work(run)
    assert capsys.readouterr().err == ""
    process = started(start())
    note_if_at_work(run)
    said = capsys.readouterr().err
    assert said.startswith(f"results/small: process {process.pid} on ")
    assert said.endswith(" is at work on this run\n")


def test_a_run_that_was_not_started(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run\.json, expected the folder of a run that was started"):
        read_start(tmp_path)
    (tmp_path / "run.json").write_text('{"command": ')
    with pytest.raises(BadInput, match=r"run\.json: not valid JSON"):
        read_start(tmp_path)


@pytest.mark.parametrize(
    ("changes", "gpus", "space", "said"),
    [
        ({}, 1, None, []),
        ({}, None, None, []),
        ({}, 0, None, ["no GPU here: evaluating on the CPU"]),
        ({"evaluation__device": "cpu"}, 0, None, []),
        ({"resources__evaluate__gpu": 0}, 0, None, []),
        (
            {"evaluation__engine": "simulated"},
            1,
            None,
            ["evaluation.engine: simulated: all scores of this run are made up"],
        ),
        (
            {},
            2,
            Space(3, 8_000_000_000, 50_000_000_000),
            ["disk: up to 3 merged models of 8.0 GB at a time, 24.0 GB of the 50.0 GB that are free"],
        ),
    ],
)
def test_what_a_user_should_know(
    changes: dict[str, Any], gpus: int | None, space: Space | None, said: list[str]
) -> None:
    assert notes(load(demo(**changes)), gpus, space) == said


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("all --cores 2 --configfile my.yaml", "all --cores 2 --configfile my.yaml"),
        ("--cores 2 -F", "--cores 2"),
        ("--forceall --cores 2", "--cores 2"),
        ("-f tables/a.csv --cores 2", "tables/a.csv --cores 2"),
        ("--force-use-threads -fn", "--force-use-threads -fn"),  # others, and what nobody would repeat
        ("--cores 2 --unlock", "--cores 2"),
        # The words that follow are what is forced ...
        ("--cores 2 -R evaluate merge", "--cores 2"),
        ("--forcerun evaluate merge --cores 2 all", "--cores 2 all"),
        ("-R --cores 2", "--cores 2"),
        ("-R a --forcerun b -j 3 --unlock", "-j 3"),
        ("--cores 2 --forcerun=evaluate all", "--cores 2 all"),
        # ... and others are not
        ("-R a -- all", "-- all"),
        ("--config run=-F --cores 2", "--config run=-F --cores 2"),
    ],
)
def test_what_forces_is_for_one_start(given: str, kept: str) -> None:
    assert command(["/a/bin/snakemake", *given.split()]) == ["/a/bin/snakemake", *kept.split()]


def test_the_program_can_be_called_again() -> None:
    assert command(["snakemake", "-n"]) == ["snakemake", "-n"]
    assert command(["/a/site-packages/snakemake/__main__.py", "-n"]) == ["snakemake", "-n"]


def test_the_record_keeps_the_config_as_it_was_written(start: Any) -> None:
    started(start())
    assert load(read_json(Path("results/small/run.json"))["config"]).retries == 5


def test_an_engine_that_is_not_installed_is_said_at_the_start(tmp_path: Path) -> None:
    config = load(demo(evaluation__engine="vllm"))
    with pytest.raises(BadInput, match=r"evaluation\.engine: vllm is not installed .*evaluate-vllm\.yaml"):
        check_environment(config, conda=False)
    check_environment(config, conda=True)
    check_environment(load(demo()), conda=False)
    for name, status in [("without", 1), ("with", 0)]:
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    elsewhere = {"evaluation__engine": "vllm"}
    with pytest.raises(BadInput, match="vllm is not installed"):
        check_environment(load(demo(**elsewhere, evaluation__python=str(tmp_path / "without"))), conda=False)
    check_environment(load(demo(**elsewhere, evaluation__python=str(tmp_path / "with"))), conda=False)
    # One that is on the cluster's nodes alone cannot be asked.
    check_environment(load(demo(**elsewhere, evaluation__python=str(tmp_path / "none"))), conda=False)


def test_what_a_missing_base_makes_of_methods_is_said() -> None:
    searches = {
        "ties": {"preset": "baseline", "method": "ties"},
        "dare": {"preset": "baseline", "method": "dare_linear"},
    }
    dare, ties = notes(load(demo(searches=searches)), 1, None)
    assert dare.startswith("searches.dare: no base is set, and instruct, the last source, serves as the base")
    assert ties.startswith("searches.ties: left out: no base is set")
