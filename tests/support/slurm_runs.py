"""Snakemake with `--profile slurm`, in a checkout of its own."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from runs import ENVIRONMENT, ROOT, Workflow

# Snakemake, looking for ended jobs sooner than on a real cluster, where evaluations take minutes.
QUICK = Path(__file__).with_name("quick_slurm.py")


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class SlurmWorkflow(Workflow):
    """A checkout with a config of its own, in which one types `snakemake --profile slurm`."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        (folder / "config").mkdir(parents=True)
        for name in ("Snakefile", "workflow", "profiles", "slurm", "envs", "resources"):
            (folder / name).symlink_to(ROOT / name)
        super().__init__(folder, config)

    def write(self, config: dict[str, Any]) -> None:
        (self.folder / "config/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(QUICK), "--profile", "slurm", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it in the background, in a process group of its own; what it prints goes to snakemake.log."""
        with (self.folder / "snakemake.log").open("ab") as log:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=ENVIRONMENT,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # A shell that runs the tests in the background has it ignored, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def finish(self, process: subprocess.Popen[bytes], seconds: float = 900) -> int:
        """Its exit status; a run that takes too long is killed."""
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError((self.folder / "snakemake.log").read_text()[-20_000:]) from None

    def job_of(self, candidate: str) -> str | None:
        """The Slurm job in which an evaluation of the candidate is under way."""
        attempts = self.results / "candidates" / candidate / "attempts.jsonl"
        lines = attempts.read_text().splitlines() if attempts.exists() else []
        last = json.loads(lines[-1]) if lines else {}
        return last["job"] if last.get("event") == "begin" and last["step"] == "evaluate" else None
