"""Leases among real processes: one holder at a time, no dead one, and none that lost its lease and goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from bambo.candidate import lease
from bambo.candidate.lease import SUPERSEDED, Held, Holder, Watch, hold, holder

HOLDING = """
import sys
from pathlib import Path
from bambo.candidate import lease
lease.POLL, lease.HEARTBEAT = 0.01, 0.02
with lease.hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
print("left", flush=True)
"""
# Two threads in each process. Each hold fails if another is inside, and adds one to a number that has no lock itself.
COUNTING = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from bambo.candidate import lease
lease.POLL = 0.002
folder = Path(sys.argv[1])
inside, count = folder / "inside", folder / "count"
def count_up(_):
    for _ in range(15):
        with lease.hold(folder):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            count.write_text(str(int(count.read_text()) + 1))
            inside.unlink()
with ThreadPoolExecutor() as threads:
    list(threads.map(count_up, range(2)))
"""
# Each says who is inside, and half of them die there.
DYING = """
import os, signal, sys
from pathlib import Path
import psutil
from bambo.candidate import lease
lease.POLL = 0.002
folder = Path(sys.argv[1])
with lease.hold(folder):
    inside = folder / "inside"
    if inside.exists():
        try:
            assert psutil.Process(int(inside.read_text())).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            pass
    inside.write_text(str(os.getpid()))
    with open(folder / "came", "a") as came:
        came.write("x")
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    inside.unlink()
"""
ELSEWHERE = Holder("elsewhere", 12, 1.0, None, "2026-11-24 12:00:00")


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """start(code, folder, ...) runs code in a process of its own, which ends with the test."""
    begun = []

    def run(code: str, *arguments: Any) -> subprocess.Popen[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True, **pipes)
        begun.append(process)
        return process

    yield run
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process polls often, and leases are stale soon."""
    monkeypatch.setattr(lease, "POLL", 0.01)
    monkeypatch.setattr(lease, "STALE", 0.2)


def holding(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def leases(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".lease.*"))


def write_lease(folder: Path, who: Holder, number: int = 1) -> Path:
    path = folder / f".lease.{number}"
    path.write_text(json.dumps(asdict(who)))
    return path


def dead_process() -> Holder:
    """A process of this host that is no more."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    who = replace(lease.myself(), pid=process.pid, started=psutil.Process(process.pid).create_time())
    process.communicate()
    return who


def test_a_lease_is_a_file_that_says_who_holds_it_and_goes(tmp_path: Path) -> None:
    folder = tmp_path / "candidates" / "0a"
    with hold(folder):
        assert leases(folder) == [".lease.1"]
        assert holder(folder) == replace(lease.myself(), since=holder(folder).since)
    assert leases(folder) == []
    with pytest.raises(ZeroDivisionError), hold(folder):
        1 / 0  # noqa: B018
    assert leases(folder) == []
    assert holder(folder) is None


def test_two_never_hold_at_the_same_time(tmp_path: Path, start: Any) -> None:
    (tmp_path / "count").write_text("0")
    workers = [start(COUNTING, tmp_path) for _ in range(4)]
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, said
    assert (tmp_path / "count").read_text() == "120"
    assert leases(tmp_path) == []


def test_the_next_one_holds_alone_after_one_that_was_killed(tmp_path: Path, start: Any) -> None:
    ends = ["dies", "leaves"] * 4
    workers = [start(DYING, tmp_path, end) for end in ends]
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [
        -signal.SIGKILL if end == "dies" else 0 for end in ends
    ], said
    assert (tmp_path / "came").read_text() == "x" * 8


def test_a_living_holder_is_waited_for_and_named(tmp_path: Path, start: Any) -> None:
    first = holding(start(HOLDING, tmp_path))
    second = start(HOLDING, tmp_path)
    waiting = second.stderr.readline()
    assert waiting.startswith(f"{tmp_path}: waiting for process {first.pid} on {socket.gethostname()} since ")
    assert holder(tmp_path).pid == first.pid
    assert first.communicate("\n") == ("left\n", "")
    assert holding(second).communicate("\n") == ("left\n", "")  # said once that it waits
    assert leases(tmp_path) == []


def test_a_killed_holder_is_followed_at_once(tmp_path: Path, start: Any) -> None:
    first = holding(start(HOLDING, tmp_path))
    second = start(HOLDING, tmp_path)
    assert "waiting" in second.stderr.readline()
    first.kill()  # a zombie until the test ends
    holding(second)
    assert leases(tmp_path) == [".lease.2"]
    assert holder(tmp_path).pid == second.pid


def test_who_does_not_wait_is_told_who_holds(tmp_path: Path, start: Any) -> None:
    first = holding(start(HOLDING, tmp_path))
    with (
        pytest.raises(Held, match=f"process {first.pid} on {socket.gethostname()} since") as held,
        hold(tmp_path, wait=False),
    ):
        pass
    assert held.value.holder.pid == first.pid
    first.kill()
    first.wait()
    with hold(tmp_path, wait=False):
        assert holder(tmp_path).pid == os.getpid()


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    who = replace(lease.myself(), pid=process.pid, started=psutil.Process(process.pid).create_time())
    write_lease(tmp_path, who)
    assert holder(tmp_path) == who
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert holder(tmp_path) is None
    process.communicate()


def test_a_process_with_the_number_of_a_dead_one_does_not_hold(tmp_path: Path) -> None:
    write_lease(tmp_path, replace(lease.myself(), started=lease.myself().started - 3600))
    assert holder(tmp_path) is None
    with hold(tmp_path):
        assert leases(tmp_path) == [".lease.2"]


def test_leases_that_the_dead_left_are_removed(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        write_lease(tmp_path, dead_process(), number)
    (tmp_path / ".lease.12.34.tmp").touch()  # one that was killed before it had a lease
    with hold(tmp_path):
        assert leases(tmp_path) == [".lease.11", ".lease.12.34.tmp"]


# Other hosts


def test_readers_tell_the_living_by_the_last_touch(tmp_path: Path) -> None:
    path = write_lease(tmp_path, ELSEWHERE)
    assert holder(tmp_path) == ELSEWHERE
    assert str(holder(tmp_path)) == "process 12 on elsewhere since 2026-11-24 12:00:00"
    assert str(replace(ELSEWHERE, job="7")).startswith("Slurm job 7, process 12 on elsewhere")
    now = time.time()
    os.utime(path, (now, now - lease.STALE - 10))
    assert holder(tmp_path) is None
    path.write_text("{")
    assert holder(tmp_path) is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock for Watch that stands until it is moved."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(lease, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_holder_elsewhere_is_stale_when_it_was_not_touched_for_long(tmp_path: Path, clock: Any) -> None:
    path, watch = write_lease(tmp_path, ELSEWHERE), Watch()
    os.utime(path, (0, 0))  # the time on the other host's clock does not count
    for _ in range(3):
        assert watch.look(path) == ELSEWHERE
        clock.now += lease.STALE - 1
        assert watch.look(path) == ELSEWHERE
        os.utime(path, (0, path.stat().st_mtime + 1))
    clock.now += lease.STALE + 1
    assert watch.look(path) == ELSEWHERE  # touched since the last look
    clock.now += lease.STALE + 1
    assert watch.look(path) is None


def test_watching_begins_anew_with_another_lease(tmp_path: Path, clock: Any) -> None:
    first, watch = write_lease(tmp_path, ELSEWHERE), Watch()
    assert watch.look(first) == ELSEWHERE
    clock.now += lease.STALE - 1
    second = write_lease(tmp_path, replace(ELSEWHERE, pid=13), 2)
    assert watch.look(second).pid == 13
    clock.now += lease.STALE - 1
    assert watch.look(second).pid == 13
    second.unlink()
    assert watch.look(second) is None


@pytest.mark.usefixtures("quick")
def test_a_stale_holder_is_followed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_lease(tmp_path, ELSEWHERE)
    with hold(tmp_path):
        assert leases(tmp_path) == [".lease.2"]
    assert "waiting for process 12 on elsewhere" in capfd.readouterr().err


def test_a_holder_touches_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT", 0.01)
    with hold(tmp_path):
        path = tmp_path / ".lease.1"
        for _ in range(2):
            os.utime(path, (0, 0))
            while path.stat().st_mtime == 0:
                time.sleep(0.001)


# Holders that lost their lease


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.wait()  # communicate() would close what it waits for
    return process.returncode, process.stdout.read(), process.stderr.read()


def test_a_holder_whose_lease_is_gone_ends(tmp_path: Path, start: Any) -> None:
    process = holding(start(HOLDING, tmp_path))
    (tmp_path / ".lease.1").unlink()
    said = f"error: {tmp_path / '.lease.1'}: the lease was taken over, or its folder is gone; stopped\n"
    assert ended(process) == (SUPERSEDED, "", said)


def test_a_holder_whose_folder_is_gone_ends(tmp_path: Path, start: Any) -> None:
    process = holding(start(HOLDING, tmp_path / "0a"))
    (tmp_path / "0a").rename(tmp_path / "0b")
    assert ended(process)[0] == SUPERSEDED


@pytest.mark.usefixtures("quick")
def test_a_holder_that_was_cut_off_ends_when_it_is_back(tmp_path: Path, start: Any) -> None:
    process = holding(start(HOLDING, tmp_path))
    process.send_signal(signal.SIGSTOP)
    with hold(tmp_path):
        process.send_signal(signal.SIGCONT)
        assert ended(process)[0] == SUPERSEDED
        assert leases(tmp_path) == [".lease.2"]


@pytest.mark.usefixtures("quick")
def test_it_ends_as_well_when_the_next_one_has_come_and_gone(tmp_path: Path, start: Any) -> None:
    process = holding(start(HOLDING, tmp_path))
    process.send_signal(signal.SIGSTOP)
    with hold(tmp_path):
        pass
    with hold(tmp_path):
        assert leases(tmp_path) == [".lease.1"]  # the number that the other one had
        process.send_signal(signal.SIGCONT)
        assert ended(process)[0] == SUPERSEDED
        assert holder(tmp_path).pid == os.getpid()


def test_a_holder_does_not_remove_the_lease_of_another(tmp_path: Path) -> None:
    with hold(tmp_path):
        write_lease(tmp_path, ELSEWHERE)  # between two heartbeats
    assert holder(tmp_path) == ELSEWHERE


def test_who_looked_at_a_dead_holder_does_not_take_from_a_living_one(
    tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, link = write_lease(tmp_path, dead_process()), os.link
    late = []

    def slowly(source: Path, target: Path) -> None:
        """Meanwhile another one has followed the dead one and left, and a third one came."""
        if not late:
            dead.unlink()
            late.append(holding(start(HOLDING, tmp_path)))
        link(source, target)

    monkeypatch.setattr(lease.os, "link", slowly)
    monkeypatch.setattr(lease, "POLL", 0.01)
    with pytest.raises(Held) as held, hold(tmp_path, wait=False):
        pass
    [third] = late
    assert held.value.holder.pid == third.pid
    assert leases(tmp_path) == [".lease.1"]
    assert third.communicate("\n") == ("left\n", "")


def test_a_lease_that_one_left_who_came_too_late_hides_no_living_one(tmp_path: Path, start: Any) -> None:
    first = holding(start(HOLDING, tmp_path))
    write_lease(tmp_path, dead_process(), 2)
    assert holder(tmp_path).pid == first.pid
    with pytest.raises(Held) as held, hold(tmp_path, wait=False):
        pass
    assert held.value.holder.pid == first.pid
    second = start(HOLDING, tmp_path)
    assert f"waiting for process {first.pid} on " in second.stderr.readline()
    first.communicate("\n")
    holding(second)
    assert leases(tmp_path) == [".lease.3"]


# Slurm


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A squeue that prints the file `state`, and writes what it was asked to `asked`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "squeue"
    script.write_text(f'#!/bin/sh\ncd "{folder}"\necho "$@" >> asked\n. ./state\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def state(squeue: Path, *names: str) -> None:
    (squeue / "state").write_text("".join(f"echo {name}\n" for name in names))


GONE = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


@pytest.mark.parametrize("answer", ["", "echo COMPLETED", "echo NODE_FAIL; echo CANCELLED", GONE])
def test_the_lease_of_a_job_ends_with_the_job(
    tmp_path: Path, squeue: Path, clock: SimpleNamespace, answer: str
) -> None:
    who = replace(ELSEWHERE, job="77")
    path, watch = write_lease(tmp_path, who), Watch()
    state(squeue, "RUNNING")
    assert watch.look(path) == who
    (squeue / "state").write_text(answer)
    assert watch.look(path) == who  # asked now and then only
    clock.now += lease.HEARTBEAT + 1
    assert watch.look(path) is None
    assert (squeue / "asked").read_text().splitlines() == [
        "--noheader --states=all --format=%T --jobs 77"
    ] * 2


@pytest.mark.parametrize("alive", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED"])
def test_the_lease_of_a_living_job_holds(tmp_path: Path, squeue: Path, clock: Any, alive: str) -> None:
    who = replace(ELSEWHERE, job="77")
    state(squeue, "COMPLETED", alive)
    assert Watch().look(write_lease(tmp_path, who)) == who


def test_where_slurm_cannot_be_asked_touches_count(tmp_path: Path, squeue: Path, clock: Any) -> None:
    (squeue / "state").write_text("echo 'Unable to contact slurm controller' >&2; exit 1")
    who, watch = replace(ELSEWHERE, job="77"), Watch()
    path = write_lease(tmp_path, who)
    assert watch.look(path) == who
    clock.now += lease.STALE + 1
    assert watch.look(path) is None


def test_a_requeued_job_follows_itself(tmp_path: Path, squeue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state(squeue, "RUNNING")
    path = write_lease(tmp_path, replace(ELSEWHERE, job="77"))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert Watch().look(path) is None
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    assert Watch().look(path) is not None


@pytest.mark.usefixtures("quick")
def test_a_job_that_was_waited_for_is_followed(
    tmp_path: Path, squeue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT", 0.01)
    monkeypatch.setattr(lease, "STALE", 1e9)
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    state(squeue, "RUNNING")
    write_lease(tmp_path, replace(ELSEWHERE, job="77"))
    taken = threading.Event()

    def follow() -> None:
        with hold(tmp_path):
            taken.set()

    waiting = threading.Thread(target=follow)
    waiting.start()
    while not (squeue / "asked").exists() or len((squeue / "asked").read_text().splitlines()) < 2:
        time.sleep(0.001)
    assert not taken.is_set()
    state(squeue, "TIMEOUT")
    waiting.join()
    assert taken.is_set()
