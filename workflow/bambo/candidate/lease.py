"""Leases: one process or thread at a time works in a folder, on whichever host; a dead one does not block it for ever.

A lease is a file `.lease.<n>` that its holder touches from time to time. Whoever creates the next number holds it: a
file system of a cluster lets just one process do so, while its locks may not work. It ends when
its holder removes it, when the holder is known to be dead (process or Slurm job), or when it was not touched for STALE
seconds.
"""

import json
import os
import random
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from . import slurm

HEARTBEAT = 10.0
STALE = 120.0
POLL = 2.0
MOVED = 60.0
SUPERSEDED = 75  # exit status of a holder that lost its lease (EX_TEMPFAIL)


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: a process, known by its start as well as its number, and its Slurm job if it has one."""

    host: str
    pid: int
    started: float
    job: str | None
    since: str

    def __str__(self) -> str:
        return f"{f'Slurm job {self.job}, ' if self.job else ''}process {self.pid} on {self.host} since {self.since}"


class Held(Exception):
    """Another process, `holder`, is at work."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(str(holder))
        self.holder = holder


@contextmanager
def hold(folder: Path, wait: bool = True, poll: float | None = None) -> Iterator[None]:
    """Hold the lease of a folder within the block; wait for it, or raise Held.

    poll: seconds between two looks, of a lease that is held for seconds only; who holds it is then said late.

    A holder whose lease was taken over (its host was cut off for longer than STALE) ends its process at once, since
    another one has begun the same work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    me = myself()
    path = _acquire(folder, me, wait, poll)
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, me, done), daemon=True)
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()
        if _is_of(path, me):
            path.unlink(missing_ok=True)


def holder(folder: Path) -> Holder | None:
    """Who works in a folder now, by its files alone; for readers."""
    for path in _leases(folder).values():
        try:
            fresh = time.time() - path.stat().st_mtime < STALE
            who = _read(path)
        except FileNotFoundError:
            continue
        if fresh and who is not None and not _dead_here(who):
            return who
    return None


def myself() -> Holder:
    started = psutil.Process().create_time()
    now = datetime.now().isoformat(" ", "seconds")
    return Holder(socket.gethostname(), os.getpid(), started, os.environ.get("SLURM_JOB_ID"), now)


def _acquire(folder: Path, me: Holder, wait: bool, poll: float | None) -> Path:
    watches: dict[Path, Watch] = defaultdict(Watch)
    said, begun = False, time.monotonic()
    while True:
        held = _leases(folder)
        states = _states(held)
        top = max(held, default=0)
        # Of all of them: the highest may be that of one who came too late, and goes just now or died of it.
        living = filter(None, (watches[path].look(path) for path in held.values()))
        who = next(living, None) if wait else holder(folder)
        if who is None:
            # Created with its contents, at once, and only if it is not there: link() is atomic on NFS, too.
            mine = folder / f".lease.{top + 1}"
            temporary = folder / f".lease.{me.host}.{me.pid}.{threading.get_ident()}.tmp"
            temporary.write_text(json.dumps(asdict(me)), encoding="utf-8")
            try:
                os.link(temporary, mine)
            except FileExistsError:
                continue
            finally:
                temporary.unlink()
            # The numbers come again when all have gone, so a lease is the same only if its contents are.
            now = set(_leases(folder))
            if top + 1 in now <= {*held, top + 1} and _states(held) == states:
                for number, path in held.items():
                    if _states({number: path})[number] == states[number]:
                        path.unlink(missing_ok=True)
                return mine
            # Between look and link others came, worked, and went: begin anew.
            if _is_of(mine, me):
                mine.unlink(missing_ok=True)
            time.sleep(random.uniform(0, poll or POLL))
            continue
        if not wait:
            raise Held(who)
        if not said and (poll is None or time.monotonic() - begun > HEARTBEAT):
            print(f"{folder}: waiting for {who}", file=sys.stderr, flush=True)
            said = True
        time.sleep(poll or POLL)


class Watch:
    """Watches the lease of another process, by its own clock: hosts' clocks differ."""

    def __init__(self) -> None:
        self.seen: tuple[Path, float] | None = None
        self.since = 0.0
        self.asked = -STALE

    def look(self, path: Path) -> Holder | None:
        """The living holder of a lease, or None where it ended or is stale."""
        now = time.monotonic()
        try:
            touched = path.stat().st_mtime
            who = _read(path)
        except FileNotFoundError:
            return None
        if (path, touched) != self.seen:
            self.seen, self.since = (path, touched), now
        if who is None or now - self.since > STALE or _dead_here(who):
            return None
        if who.job and who.job == os.environ.get("SLURM_JOB_ID") and who.host != socket.gethostname():
            return None  # this job was requeued, and runs elsewhere now
        # Asked now and then: hundreds of waiting jobs must not flood Slurm's controller.
        if who.job and now - self.asked > HEARTBEAT:
            self.asked = now
            if slurm.is_active(who.job) is False:
                return None
        return who


def _leases(folder: Path) -> dict[int, Path]:
    """The leases of a folder by their numbers, the highest first."""
    paths = {path.name.removeprefix(".lease."): path for path in folder.glob(".lease.*")}
    found = {int(number): path for number, path in paths.items() if number.isdigit()}
    return dict(sorted(found.items(), reverse=True))


def _states(held: dict[int, Path]) -> dict[int, tuple[bytes, int] | None]:
    """Contents and last touch of each lease; None for one that is gone."""
    states: dict[int, tuple[bytes, int] | None] = {}
    for number, path in held.items():
        try:
            states[number] = path.read_bytes(), path.stat().st_mtime_ns
        except FileNotFoundError:
            states[number] = None
    return states


def _is_of(path: Path, who: Holder) -> bool:
    """Whether a lease is there and his: its number may be another one's by now."""
    try:
        return _read(path) == who
    except FileNotFoundError:
        return False


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return None


def _dead_here(who: Holder) -> bool:
    """Whether the holder was a process of this host that is no more."""
    if who.host != socket.gethostname():
        return False
    try:
        process = psutil.Process(who.pid)
        # Not to the second: where clocks are set, starts are said to move. A false "alive" costs STALE, no more.
        return abs(process.create_time() - who.started) > MOVED or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _beat(path: Path, me: Holder, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT):
        try:
            if _is_of(path, me):
                os.utime(path)
                continue
        except FileNotFoundError:
            pass
        except OSError:
            continue  # a file system that hangs for a while may come back
        print(
            f"error: {path}: the lease was taken over, or its folder is gone; stopped",
            file=sys.stderr,
            flush=True,
        )
        os._exit(SUPERSEDED)
