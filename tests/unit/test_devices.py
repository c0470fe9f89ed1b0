"""GPUs without a scheduler: which ones a process may use, and that no two processes use the same one."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from bambo.candidate import devices
from bambo.candidate.devices import VISIBLE, exclusive, gpus

FIRST, SECOND = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-8a56a4bc-f184-a047-2620-0cf8c8c4cf3d"
MIG = "MIG-9d6f0fd5-0b8c-5a5e-8b0b-2a1b7b1c0d3e"

# Holds devices a few times, and writes down when; the end of a hold is written before it ends.
HOLDING = """
import os, sys, time
from pathlib import Path
from bambo.candidate import devices
devices.POLL = 0.01
count, times, folder, names = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]
log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(what, held):
    os.write(log, "".join(f"{uuid} {what} {os.getpid()}\\n" for uuid in held).encode())
for _ in range(times):
    with devices.exclusive(count, names, folder / "locks") as held:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(held)
        note("begin", held)
        time.sleep(0.005)
        note("end", held)
"""


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two GPUs, of which all may be used."""
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\n[ "$*" = "--query-gpu=uuid --format=csv,noheader" ] && printf "{FIRST}\\n{SECOND}\\n"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.delenv(VISIBLE, raising=False)
    return script


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VISIBLE, "")  # what the block sets goes with the test
    monkeypatch.setattr(devices, "POLL", 0.01)
    return tmp_path / "locks"


@pytest.mark.usefixtures("nvidia_smi")
def test_all_gpus_where_nothing_is_said() -> None:
    assert gpus() == [FIRST, SECOND]


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", [FIRST]),
        ("1", [SECOND]),
        ("1,0", [SECOND, FIRST]),
        (" 1 , 0 ", [SECOND, FIRST]),
        # The list ends at the first entry that names no GPU.
        ("0,7,1", [FIRST]),
        ("0,-1,1", [FIRST]),
        ("7", []),
        # ... or one that it had before
        ("1,1,0", [SECOND]),
        (f"{FIRST},0", [FIRST]),
        (SECOND, [SECOND]),
        (f"{SECOND},{FIRST}", [SECOND, FIRST]),
        ("GPU-8a", [SECOND]),
        ("GPU-893,GPU-8a5", [FIRST, SECOND]),
        ("GPU-8", []),  # both
        ("GPU-ffff", []),
        (MIG, [MIG]),
        (f"{MIG},MIG-GPU-8932f937/1/0", [MIG, "MIG-GPU-8932f937/1/0"]),
    ],
)
def test_what_may_be_seen(monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]) -> None:
    monkeypatch.setenv(VISIBLE, visible)
    assert gpus() == expected


def test_no_gpus_where_the_driver_is_not_there_or_not_well(
    nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.write_text("#!/bin/sh\necho No devices were found; exit 6\n")
    assert gpus() == []
    monkeypatch.setenv(VISIBLE, "0")
    assert gpus() == []
    nvidia_smi.unlink()
    assert gpus() == []


def held(folder: Path) -> set[str]:
    """The devices whose lock another process has."""
    found = set()
    for path in folder.iterdir():
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.add(path.name.removesuffix(".lock"))
    return found


def start(count: int, times: int, folder: Path, code: str = HOLDING) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(count), str(times), str(folder), FIRST, SECOND]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def history(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """What happened to each device: begin or end, and of whom."""
    found = defaultdict(list)
    for line in (folder / "log").read_text().splitlines():
        uuid, what, process = line.split()
        found[uuid].append((what, process))
    return found


@pytest.mark.parametrize(("counts", "times"), [([1] * 6, 4), ([2, 2], 10), ([2, 1, 2, 1], 5)])
def test_no_two_processes_share_a_device(tmp_path: Path, counts: list[int], times: int) -> None:
    workers = [start(count, times, tmp_path) for count in counts]
    for worker in workers:
        worker.communicate(timeout=120)  # those that need both do not wait for each other for ever
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    found = history(tmp_path)
    assert sum(map(len, found.values())) == 2 * times * sum(counts)
    for own in found.values():
        for begin, end in zip(own[::2], own[1::2], strict=True):
            assert (begin[0], end[0]) == ("begin", "end")
            assert begin[1] == end[1]


def test_both_devices_are_used(tmp_path: Path, locks: Path) -> None:
    with exclusive(1, [FIRST, SECOND], locks) as mine:
        assert (mine, os.environ[VISIBLE]) == ([FIRST], FIRST)
        assert start(1, 1, tmp_path).wait(timeout=60) == 0
    assert list(history(tmp_path)) == [SECOND]


def test_both_devices_can_be_taken_and_are_let_go(locks: Path) -> None:
    with exclusive(2, [SECOND, FIRST], locks) as mine:
        assert mine == [SECOND, FIRST]
        assert os.environ[VISIBLE] == f"{SECOND},{FIRST}"
        assert held(locks) == {FIRST, SECOND}
    assert held(locks) == set()
    with pytest.raises(ZeroDivisionError), exclusive(1, [FIRST], locks):
        1 / 0  # noqa: B018
    assert held(locks) == set()
    assert stat.S_IMODE(locks.stat().st_mode) == 0o700


def test_a_lock_that_is_in_use_is_not_an_old_file(locks: Path) -> None:
    locks.mkdir()
    path = locks / f"{FIRST}.lock"
    path.touch()
    os.utime(path, (0, 0))
    with exclusive(1, [FIRST], locks):
        assert path.stat().st_mtime > 0


def test_names_of_parts_of_a_gpu_are_names_of_files(locks: Path) -> None:
    with exclusive(1, ["MIG-GPU-8932f937/1/0"], locks) as mine:
        assert mine == ["MIG-GPU-8932f937/1/0"]
        assert held(locks) == {"MIG-GPU-8932f937-1-0"}


def test_a_killed_holder_lets_go(tmp_path: Path, locks: Path) -> None:
    code = HOLDING.replace("time.sleep(0.005)", "print('held', flush=True); sys.stdin.readline()")
    process: Any = start(2, 1, tmp_path, code)
    assert process.stdout.readline() == "held\n"
    assert held(locks) == {FIRST, SECOND}
    process.send_signal(signal.SIGKILL)
    with exclusive(2, [FIRST, SECOND], locks) as mine:
        assert mine == [FIRST, SECOND]
    process.communicate()
