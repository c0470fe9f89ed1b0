"""Attempts at a candidate: what each leaves, and how one that was killed is found out from Slurm or from its log."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bambo.candidate import attempts, slurm
from bambo.candidate.attempts import KINDS, Attempts, Failure

LIMIT = "slurmstepd: error: *** JOB 12 ON vm CANCELLED AT 2026-11-24T12:00:00 DUE TO TIME LIMIT ***"
NODE = "slurmstepd: error: *** JOB 12 ON vm CANCELLED AT 2026-11-24T12:00:00 DUE TO NODE FAILURE ***"
USER = "slurmstepd: error: *** JOB 12 ON vm CANCELLED AT 2026-11-24T12:00:00 ***"
MEMORY = "slurmstepd: error: Step 12.0 exceeded memory limit (650 > 200), being killed"
OOM = "slurmstepd: error: Detected 1 oom_kill event in StepId=12.batch. Some of the step tasks have been OOM Killed."


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands are those of an own folder, which is empty, and this process is no job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return folder


def command(folder: Path, name: str, text: str) -> None:
    """A command of Slurm's that writes down what it was asked, and then does what the text says."""
    script = folder / name
    script.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/{name}.asked"\n{text}\n')
    script.chmod(0o755)


def asked(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.asked"
    return path.read_text().splitlines() if path.exists() else []


def last(path: Path) -> dict[str, Any]:
    return json.loads((path / attempts.FILE).read_text().splitlines()[-1])


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows, one entry a look."""
    shown: list[float] = []
    monkeypatch.setattr(attempts.time, "time", lambda: shown.pop(0))
    return shown


def test_an_attempt_writes_down_where_it_runs_and_how_it_ended(tmp_path: Path) -> None:
    found = Attempts(tmp_path)
    assert (found.lines, found.last_failure, found.failures, found.lost_seconds) == ([], None, 0, 0)
    assert not found.path.exists()
    found.begin(2, "evaluate")
    begun = last(tmp_path)
    assert begun.pop("time") > 1.7e9
    assert begun == {
        **{"event": "begin", "step": "evaluate", "attempt": 2, "host": socket.gethostname()},
        **{"pid": os.getpid(), "job": None, "log": None},
    }
    assert found.last_failure is None
    found.end(Failure("bad scores", "logits are NaN"))
    found = Attempts(tmp_path)
    assert [line["event"] for line in found.lines] == ["begin", "end"]
    assert found.last_failure == Failure("bad scores", "logits are NaN")
    assert found.failures == 1
    found.begin(3, "evaluate")
    assert found.last_failure is None
    found.end()
    assert found.last_failure is None
    assert Attempts(tmp_path).failures == 1


def test_what_fails_after_giving_up_is_something_else(tmp_path: Path) -> None:
    found = Attempts(tmp_path)
    found.begin(1, "evaluate")
    found.end(Failure("error", "here"))
    found.give_up()
    assert last(tmp_path)["event"] == "gave up"
    found = Attempts(tmp_path)
    assert found.last_failure is None
    assert found.failures == 1
    found.settle()
    assert len(found.lines) == 3


def test_nothing_is_kept_where_nothing_failed(tmp_path: Path) -> None:
    found = Attempts(tmp_path)
    found.forget()
    found.begin(1, "merge")
    found.end()
    found.begin(1, "evaluate")
    found.end()
    assert found.path.exists()
    found.forget()
    assert not found.path.exists()
    found = Attempts(tmp_path)
    found.begin(1, "merge")
    found.end(Failure("error", "here"))
    found.forget()
    assert found.path.exists()


def test_lost_seconds_are_those_of_failed_evaluations_whose_end_is_known(
    tmp_path: Path, times: list[float]
) -> None:
    found = Attempts(tmp_path)
    history = [
        (10, "merge", 15, Failure("error", "a merge")),
        (20, "evaluate", 27, Failure("error", "an evaluation")),
        (30, "evaluate", 35, None),
        (40, "evaluate", None, None),  # killed
        (50, "evaluate", 50.5, Failure("bad scores", "another")),
    ]
    for number, (begin, step, end, failure) in enumerate(history, 1):
        times[:] = [begin] if end is None else [begin, end]
        found.settle()
        found.begin(number, step)
        if end is not None:
            found.end(failure)
    assert Attempts(tmp_path).lost_seconds == found.lost_seconds == 7.5
    assert found.failures == 4
    assert [line["kind"] for line in found.lines if line["event"] == "end"] == [
        *["error", "error", "ok", "killed", "bad scores"]
    ]


# Lines that a kill has torn


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_torn_line_is_passed_over_and_does_not_spoil_the_next_one(tmp_path: Path, kept: int) -> None:
    found = Attempts(tmp_path)
    found.begin(1, "evaluate")
    whole = found.path.read_bytes()
    found.end(Failure("error", "é" * 20))
    end = found.path.read_bytes().removeprefix(whole)
    found.path.write_bytes(whole + end[:kept])
    found = Attempts(tmp_path)
    assert [line["event"] for line in found.lines] == ["begin"]
    found.settle()
    found.begin(2, "evaluate")
    found = Attempts(tmp_path)
    assert [line["event"] for line in found.lines] == ["begin", "end", "begin"]
    assert found.lines[1]["kind"] == "killed"
    assert found.failures == 1


def test_a_whole_line_without_its_newline_counts(tmp_path: Path) -> None:
    found = Attempts(tmp_path)
    found.begin(1, "evaluate")
    found.path.write_bytes(found.path.read_bytes()[:-1])
    found = Attempts(tmp_path)
    found.settle()
    assert [line["event"] for line in Attempts(tmp_path).lines] == ["begin", "end"]


def test_bytes_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    found = Attempts(tmp_path)
    found.begin(1, "evaluate")
    found.path.write_bytes(b"\xff\xfe\0\0\n" + found.path.read_bytes())
    assert [line["event"] for line in Attempts(tmp_path).lines] == ["begin"]


# Attempts that were killed


def test_an_attempt_that_was_killed_is_settled_once(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from bambo.candidate.attempts import Attempts;"
    code += "Attempts(Path(sys.argv[1])).begin(1, 'merge')"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    assert process.wait() == 0
    found = Attempts(tmp_path)
    for _ in range(2):
        found.settle()
        assert len(found.lines) == 2
    reason = (
        f"merge: process {process.pid} on {socket.gethostname()} was killed, by a user or for want of memory"
    )
    assert found.last_failure == Failure("killed", reason)
    assert last(tmp_path)["time"] is None


def in_job(monkeypatch: pytest.MonkeyPatch, folder: Path, job: str) -> None:
    """An attempt at an evaluation that begins in a Slurm job and has no end."""
    monkeypatch.setenv("SLURM_JOB_ID", job)
    Attempts(folder).begin(1, "evaluate")


def settled(folder: Path) -> Failure:
    found = Attempts(folder)
    found.settle()
    failure = found.last_failure
    assert failure is not None
    assert failure.kind in KINDS
    return failure


def test_a_job_says_where_its_log_is_and_how_it_ended(
    tmp_path: Path, no_cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "a log" / "slurm-12.out"
    log.parent.mkdir()
    log.write_text(f"merged\n{LIMIT}\n")
    command(no_cluster, "scontrol", f"echo '   StdErr=/x'\necho '   StdOut={log}'\necho '   Power='")
    in_job(monkeypatch, tmp_path, "12")
    assert (last(tmp_path)["job"], last(tmp_path)["log"]) == ("12", str(log))
    assert asked(no_cluster, "scontrol") == ["show job 12"]
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    assert settled(tmp_path) == Failure("time-out", f"evaluate: Slurm job 12: {LIMIT}")


def test_another_process_of_the_same_job_was_killed_itself(
    tmp_path: Path, no_cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_job(monkeypatch, tmp_path, "12")
    command(no_cluster, "sacct", "echo RUNNING")
    failure = settled(tmp_path)
    assert failure.kind == "killed"
    assert f"process {os.getpid()} on " in failure.reason
    assert asked(no_cluster, "sacct") == []


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("COMPLETED\\nOUT_OF_MEMORY\\nCOMPLETED", "out of memory"),
        ("OUT_OF_ME+", "out of memory"),
        ("TIMEOUT\\nCANCELLED", "time-out"),
        ("DEADLINE", "time-out"),
        ("NODE_FAIL\\nCANCELLED", "node failure"),
        ("BOOT_FAIL", "node failure"),
        ("CANCELLED by 0", "cancelled"),
        ("PREEMPTED", "cancelled"),
        ("REVOKED", "cancelled"),
        ("FAILED\\nFAILED", "killed"),
        ("", "killed"),
    ],
)
def test_kinds_by_the_accounting(no_cluster: Path, state: str, kind: str) -> None:
    command(no_cluster, "sacct", f"printf '{state}\\n'")
    found, reason = slurm.how_it_ended("12", None)
    assert found == kind
    assert reason.startswith("Slurm job 12")
    if kind != "killed":
        assert any(reason == f"Slurm job 12: {each}" for each in state.split("\\n"))
    assert asked(no_cluster, "sacct") == ["--jobs 12 --noheader --parsable2 --format=State"]


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("OUT_OF_MEMORY", "out of memory"),
        ("TIMEOUT", "time-out"),
        ("NODE_FAIL", "node failure"),
        ("CANCELLED", "cancelled"),
        ("FAILED", "killed"),
    ],
)
def test_kinds_by_the_controller(no_cluster: Path, state: str, kind: str) -> None:
    command(no_cluster, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    command(no_cluster, "scontrol", f"echo 'JobId=12 JobState={state} Reason=None TimeLimit=00:30:00'")
    found, reason = slurm.how_it_ended("12", None)
    assert found == kind
    assert state in reason
    assert asked(no_cluster, "scontrol") == ["--oneliner show job 12"]


@pytest.mark.parametrize(
    ("lines", "kind", "said"),
    [
        ([LIMIT], "time-out", LIMIT),
        ([NODE], "node failure", NODE),
        ([USER], "cancelled", USER),
        ([USER, MEMORY], "out of memory", MEMORY),
        ([USER, OOM], "out of memory", OOM),
        (["error: it cannot be", ""], "killed", "state unknown"),
    ],
)
def test_kinds_by_the_log(tmp_path: Path, lines: list[str], kind: str, said: str) -> None:
    log = tmp_path / "slurm-12.out"
    log.write_text("\n".join(["Evaluating", *lines]) + "\n")
    found, reason = slurm.how_it_ended("12", str(log))
    assert found == kind
    assert said in reason
    assert "\n" not in reason


def test_a_kill_for_memory_counts_before_the_state_that_follows_from_it(
    no_cluster: Path, tmp_path: Path
) -> None:
    command(no_cluster, "sacct", "echo CANCELLED by 0")
    log = tmp_path / "slurm-12.out"
    log.write_text(MEMORY)
    assert slurm.how_it_ended("12", str(log)) == ("out of memory", f"Slurm job 12: {MEMORY}")


def test_only_the_end_of_a_log_counts(tmp_path: Path) -> None:
    log = tmp_path / "slurm-12.out"
    log.write_text(f"{MEMORY}\n" + "a line of an earlier attempt\n" * 1000 + f"{LIMIT}\n")
    assert slurm.how_it_ended("12", str(log))[0] == "time-out"


def test_without_slurm_nothing_is_known(tmp_path: Path) -> None:
    assert slurm.is_active("12") is None
    assert slurm.log_of("12") is None
    said = "Slurm job 12 ended without a word (state unknown)"
    assert slurm.how_it_ended("12", str(tmp_path / "gone")) == ("killed", said)
