"""How far the workflow goes: real Snakemake runs with simulated evaluations, so that only what is around them counts.

    python benchmarks/workflow_scale.py [--small] [--output results/benchmarks]

One search of 1,000 evaluations in rounds of 64, killed in its middle and started again; the same number, asynchronous
over 64 slots, which Snakemake may all have under way and in which Sobol points are proposed, so that what is around
them counts; and ten searches of 48 in one config, in rounds of 4. All on the embedded pair (8 variables), the first and
the last on 2 cores, in a temporary folder. Takes an hour; `--small` (100 evaluations, rounds of 16 and 16 slots, and
two searches of 12) some minutes; `--only slots` does the second alone. Writes workflow_scale.md.

CPU seconds of Snakemake are those of its main process alone, read from the system every quarter of a second; those of
the jobs are of all processes that it waited for, a proposal's of its own process.
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import yaml
from bambo.files import write_text
from bambo.records import read_record
from bambo.search.proposals import iteration_key, proposal_path

ROOT = Path(__file__).parents[1]
CORES = 2
POLL = 0.25  # seconds
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
EVALUATION = re.compile(r"^(?:local)?rule evaluate:$", re.MULTILINE)
JOB = re.compile(r"^(local)?(rule|checkpoint) \w+:$", re.MULTILINE)  # Snakemake's word for a job that starts


@dataclass
class Usage:
    """What a call of Snakemake took: seconds, CPU seconds of its own and of its jobs, peak memory in MB."""

    wall: float = 0.0
    own: float = 0.0
    jobs: float = 0.0
    memory: float = 0.0
    first_job: float | None = None  # seconds until the first job started
    evaluations: int = 0  # that were begun
    proposals: dict[str, float] = field(default_factory=dict)  # "<search>-<key>" -> CPU seconds


class Workflow:
    """Snakemake in a folder of its own, on the repository's Snakefile and one config."""

    def __init__(
        self,
        folder: Path,
        searches: dict[str, Any],
        cores: int = CORES,
        simulated: dict[str, float] | None = None,
    ) -> None:
        """simulated: how long evaluations take, if they take time; cores: to hand out, however many there are."""
        config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
        for source in config["sources"].values():
            source["model"] = str(ROOT / source["model"])
        for task in config["evaluation"]["tasks"].values():
            task["data"] = str(ROOT / task["data"])
        config["evaluation"] |= {"engine": "simulated", "device": "cpu", "simulated": simulated}
        config |= {"run": "scale", "searches": searches}
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        self.folder, self.results, self.cores = folder, folder / "results" / "scale", cores

    def proposal(self, search: str, key: str) -> Path:
        return proposal_path(self.results, search, key)

    def snakemake(self, *arguments: str, kill_after: Path | None = None) -> Usage:
        """Run Snakemake to its end, or kill it and its jobs some seconds after a file is there."""
        log = self.folder / "snakemake.log"
        command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(ROOT / "Snakefile")]
        command += ["--configfile", "config.yaml", "--cores", str(self.cores)]
        usage, start = Usage(), time.perf_counter()
        with open(log, "w") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=ENVIRONMENT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            self._look(watched, usage)
            if usage.first_job is None and JOB.search(log.read_text()):
                usage.first_job = time.perf_counter() - start
            if (
                kill_after is not None
                and kill_after.exists()
                and time.time() - kill_after.stat().st_mtime > 5
            ):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                break
            time.sleep(POLL)
        usage.wall = time.perf_counter() - start
        usage.evaluations = len(EVALUATION.findall(log.read_text()))
        if kill_after is None and process.returncode != 0:
            sys.exit(log.read_text()[-5000:])
        return usage

    def _look(self, process: psutil.Process, usage: Usage) -> None:
        try:
            times = process.cpu_times()
            usage.own = times.user + times.system
            usage.jobs = times.children_user + times.children_system
            usage.memory = max(usage.memory, process.memory_info().rss / 1e6)
            for child in process.children():
                spent = child.cpu_times()
                # Of shell and python, the one that works has the log open, too.
                for opened in child.open_files():
                    if opened.path.startswith(str(self.results / "logs" / "propose")):
                        usage.proposals[Path(opened.path).stem] = spent.user + spent.system
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass  # ended meanwhile


def measure(name: str, workflow: Workflow, searches: dict[str, Any], kill: bool) -> dict[str, str]:
    """One column of the table."""
    cells: dict[str, str] = {}
    runs, killed = [], "-"
    if kill:
        (search,) = searches
        middle = workflow.proposal(search, iteration_key(searches[search]["iterations"] // 2 + 1))
        runs.append(workflow.snakemake(kill_after=middle))
        workflow.snakemake("--unlock")
    runs.append(workflow.snakemake())
    if kill:
        killed = f"{runs[-1].first_job:.1f}"
    print(f"{name}: finished", flush=True)
    dry, again = workflow.snakemake("--dry-run"), workflow.snakemake()

    scored = len(list(workflow.results.glob("candidates/*/scores.json")))
    paths = {label: workflow.proposal(*_place(label)) for run in runs for label in run.proposals}
    records = {label: read_record(path, "proposal") for label, path in paths.items() if path.exists()}
    proposals = sorted(
        (len(records[label]["observed"]), spent)
        for run in runs
        for label, spent in run.proposals.items()
        if label in records and "acquisition" in records[label]["origin"]
    )
    own, jobs = sum(run.own for run in runs), sum(run.jobs for run in runs)
    proposing = sum(spent for run in runs for spent in run.proposals.values())
    made = [path for path in workflow.results.rglob("*") if path.is_file()]
    kept = [path for path in (workflow.folder / ".snakemake").rglob("*") if path.is_file()]
    cells["evaluations, end points included"] = f"{scored:,}"
    own_settings = next(iter(searches.values()))
    cells["evaluations begun"] = f"{sum(run.evaluations for run in runs):,}"
    cells["acquisition"] = own_settings.get("optimiser", own_settings.get("acquisition", "qlognehvi"))
    cells["wall time (min)"] = f"{sum(run.wall for run in runs) / 60:.1f}"
    cells["Snakemake itself, CPU s an evaluation"] = f"{own / scored:.3f}"
    cells["Snakemake itself, CPU s in all"] = f"{own:.0f}"
    cells["Snakemake itself, peak memory (MB)"] = f"{max(run.memory for run in runs):.0f}"
    cells["jobs but proposals, CPU s an evaluation"] = f"{(jobs - proposing) / scored:.2f}"
    cells["proposals"] = str(len(proposals))
    for label, (observed, spent) in [("first", proposals[0]), ("last", proposals[-1])]:
        cells[f"{label} proposal, CPU s (observations)"] = f"{spent:.1f} ({observed})"
    cells["median proposal, CPU s"] = f"{statistics.median(spent for _, spent in proposals):.1f}"
    cells["finished run: `-n`, wall s (CPU s)"] = f"{dry.wall:.1f} ({dry.own:.1f})"
    cells["finished run: start with nothing to do, wall s (CPU s)"] = f"{again.wall:.1f} ({again.own:.1f})"
    cells["killed in the middle: start to first job, wall s"] = killed
    cells["files in results/, an evaluation"] = f"{len(made) / scored:.1f}"
    cells["files in .snakemake/, an evaluation"] = f"{len(kept) / scored:.1f}"
    return cells


def _place(label: str) -> tuple[str, str]:
    search, _, key = label.rpartition("-")
    return search, key


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="100 evaluations, and two searches of 12")
    parser.add_argument("--only", choices=["rounds", "slots", "searches"], help="one of the three")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    size = {"n_initial": 40, "iterations": 15, "batch_size": 64}
    many, count = {"n_initial": 8, "iterations": 10, "batch_size": 4}, 10
    if options.small:
        size = {"n_initial": 20, "iterations": 5, "batch_size": 16}
        many, count = {"n_initial": 6, "iterations": 2, "batch_size": 3}, 2
    one = {**size, "acquisition": "thompson"}
    slots = size["batch_size"]
    plans: dict[str, tuple[str, dict[str, Any], int]] = {
        "rounds": (f"one search, rounds of {slots}", {"large": one}, CORES),
        "slots": (
            f"one search, {slots} slots",
            {"large": {**size, "schedule": "async", "optimiser": "sobol"}},
            slots,
        ),
        "searches": (
            f"{count} searches, rounds of {many['batch_size']}",
            {f"search-{seed}": {**many, "seed": seed} for seed in range(count)},
            CORES,
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        columns = {
            name: measure(
                name, Workflow(Path(folder) / kind, searches, cores), searches, kill=kind == "rounds"
            )
            for kind, (name, searches, cores) in plans.items()
            if options.only in (None, kind)
        }
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    first = next(iter(columns.values()))
    lines += [f"| {row} | " + " | ".join(cells[row] for cells in columns.values()) + " |" for row in first]
    note = f"All evaluations are simulated. {date.today()}, {CORES} of {os.cpu_count()} cores."
    text = "\n".join([*lines, "", note]) + "\n"
    print(text, end="")
    write_text(options.output / "workflow_scale.md", text)


if __name__ == "__main__":
    main()
