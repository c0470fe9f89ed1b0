"""What Slurm knows of a job: whether it lives, and how it ended, by its state or by what its log says."""

import re
import shutil
import subprocess
from pathlib import Path

# Kinds of failure by what gives them away, in a state or in a log; the first that matches counts, since a job that
# was killed for its memory is FAILED or CANCELLED as well.
SIGNS = {
    "out of memory": r"OUT_OF_ME|exceeded memory limit|[Oo]ut [Oo]f [Mm]emory|oom[-_ ]kill",
    "time-out": r"TIMEOUT|DEADLINE|DUE TO TIME LIMIT",
    "node failure": r"NODE_FAIL|BOOT_FAIL|DUE TO NODE FAILURE|NODE FAILURE",
    "cancelled": r"CANCELLED|PREEMPTED|REVOKED",
}
ACTIVE = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "STOPPED", "RESIZING"}
LOG_TAIL = 20_000  # bytes: Slurm's own words come last


def is_active(job: str) -> bool | None:
    """Whether a job waits or runs; None where Slurm cannot be asked."""
    answer = _ask("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job)
    if answer is None:
        return None
    return any(state in ACTIVE for state in answer.split())


def log_of(job: str) -> str | None:
    """The file that a job's output goes to."""
    found = re.search(r"StdOut=(.+)", _ask("scontrol", "show", "job", job) or "")
    return found.group(1) if found else None


def how_it_ended(job: str, log: str | None) -> tuple[str, str]:
    """Kind of failure of a job that ended without a word of its own, and where that was read.

    Asks the accounting, then the controller (which forgets jobs after some minutes), then reads the job's log.
    """
    sacct = _ask("sacct", "--jobs", job, "--noheader", "--parsable2", "--format=State") or ""
    scontrol = _ask("scontrol", "--oneliner", "show", "job", job) or ""
    states = [*sacct.split("\n"), *re.findall(r"JobState=(\S+)", scontrol)]
    words = _tail(log)
    for kind, sign in SIGNS.items():
        if state := next((state for state in states if re.search(sign, state)), None):
            return kind, f"Slurm job {job}: {state.strip()}"
        if line := next((line for line in words if re.search(sign, line)), None):
            return kind, f"Slurm job {job}: {line.strip()}"
    return (
        "killed",
        f"Slurm job {job} ended without a word ({', '.join(filter(None, states)) or 'state unknown'})",
    )


def _tail(log: str | None) -> list[str]:
    if log is None or not Path(log).is_file():
        return []
    with open(log, "rb") as file:
        file.seek(max(0, Path(log).stat().st_size - LOG_TAIL))
        return file.read().decode(errors="replace").splitlines()


def _ask(*command: str) -> str | None:
    """What a command of Slurm's prints; "" where it knows no such job, None where it cannot be asked."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode == 0:
        return done.stdout
    return "" if "invalid job id" in done.stderr.lower() else None
