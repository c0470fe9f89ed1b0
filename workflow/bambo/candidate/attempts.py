"""The attempts at one candidate: an append-only file of begins and ends, from which the next one learns.

A killed job cannot say so. Every attempt first writes down where it runs; the next one finds that it has no end, and
asks how it came to that.
"""

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import slurm

FILE = "attempts.jsonl"
KINDS = (*slurm.SIGNS, "killed", "error", "bad scores", "input")


@dataclass(frozen=True)
class Failure:
    """How an attempt failed: one of KINDS ("input": something that the user gave, which no retry mends)."""

    kind: str
    reason: str


class Attempts:
    """The attempts at the candidate in `folder`; for the holder of its lease, but for reading."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.lines = _read(self.path)

    def begin(self, number: int, step: str) -> None:
        """Write down that an attempt at a step (merge or evaluate) begins in this process."""
        job = os.environ.get("SLURM_JOB_ID")
        self._append(
            event="begin",
            step=step,
            attempt=number,
            time=time.time(),
            host=socket.gethostname(),
            pid=os.getpid(),
            job=job,
            log=slurm.log_of(job) if job else None,
        )

    def end(self, failure: Failure | None = None) -> None:
        """Write down that the attempt ended, and how it failed."""
        how = {"kind": failure.kind, "reason": failure.reason} if failure else {"kind": "ok"}
        self._append(event="end", time=time.time(), **how)

    def settle(self) -> None:
        """Write down the end of an attempt that ended without a word, as far as it can be found out."""
        if self.lines and self.lines[-1]["event"] == "begin":
            self._append(event="end", **self._found_out(self.lines[-1]))

    def give_up(self) -> None:
        """Write down that no further attempt follows: what fails later is not what failed before."""
        self._append(event="gave up", time=time.time())

    @property
    def last_failure(self) -> Failure | None:
        """How the last attempt failed; None where there was none, it is under way, or it ended well."""
        last = self.lines[-1] if self.lines else {}
        if last.get("event") != "end" or last["kind"] == "ok":
            return None
        return Failure(last["kind"], last["reason"])

    @property
    def last_try(self) -> Failure | None:
        """How the last attempt that began failed, also where no further one follows; for reading."""
        ends = [line for line in self.lines if line["event"] == "end"]
        under_way = self.lines and self.lines[-1]["event"] == "begin"
        return (
            Failure(ends[-1]["kind"], ends[-1]["reason"])
            if ends and not under_way and ends[-1]["kind"] != "ok"
            else None
        )

    @property
    def failures(self) -> int:
        return sum(line["event"] == "end" and line["kind"] != "ok" for line in self.lines)

    @property
    def failed_evaluations(self) -> list[tuple[float, float, str]]:
        """Begin, end and kind of the attempts at an evaluation that failed; those without a known end are left out."""
        pairs = zip(self.lines, self.lines[1:], strict=False)
        return [
            (begin["time"], end["time"], end["kind"])
            for begin, end in pairs
            if begin["event"] == "begin"
            and begin["step"] == "evaluate"
            and end.get("time")
            and end["kind"] != "ok"
        ]

    @property
    def lost_seconds(self) -> float:
        """Wall seconds of the attempts at an evaluation that failed; those without a known end count nothing."""
        return sum(ended - began for began, ended, _ in self.failed_evaluations)

    def forget(self) -> None:
        """Remove the file where nothing failed: it has nothing to tell."""
        if not self.failures:
            self.path.unlink(missing_ok=True)

    def _found_out(self, begin: dict[str, Any]) -> dict[str, Any]:
        # Of the job that runs now, another process may have been killed: a step of Slurm's, or by the system.
        if begin["job"] and begin["job"] != os.environ.get("SLURM_JOB_ID"):
            kind, reason = slurm.how_it_ended(begin["job"], begin["log"])
        else:
            kind = "killed"
            reason = f"process {begin['pid']} on {begin['host']} was killed, by a user or for want of memory"
        return {"time": None, "kind": kind, "reason": f"{begin['step']}: {reason}"}

    def _append(self, **line: Any) -> None:
        with open(self.path, "ab+") as file:
            torn = file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
            file.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines of the file; one that a kill has torn is passed over."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
