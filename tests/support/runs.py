"""Snakemake on the embedded pair: real merges, real lm-eval, real proposals, a search of some minutes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from bambo.report.tables import MEASURED

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "HF_HUB_OFFLINE": "1"}


def small_config(**changes: Any) -> dict[str, Any]:
    """The demo's models and benchmarks with 16 questions each, 4 + 2 x 2 evaluations and a grid of 2 weights."""
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for source in demo["sources"].values():
        source["model"] = str(ROOT / source["model"])
    for task in demo["evaluation"]["tasks"].values():
        task["data"] = str(ROOT / task["data"])
    demo["confirm"]["data"] = {name: str(ROOT / path) for name, path in demo["confirm"]["data"].items()}
    demo["evaluation"] |= {"limit": 16, "batch_size": 8, "device": "cpu"}
    cheap = {"restarts": 2, "raw_samples": 16, "mc_samples": 16}
    demo |= {
        "run": "small",
        "searches": {
            "blocks": {"n_initial": 4, "iterations": 2, "batch_size": 2, **cheap},
            "single": {"preset": "model-grid", "weights": [0.3, 0.7]},
        },
    }
    return demo | changes


class Workflow:
    """Snakemake in a folder of its own, with the repository's Snakefile and one config."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.results = folder / "results" / config["run"]
        self.write(config)

    def write(self, config: dict[str, Any]) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def command(self, *arguments: str) -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake", *arguments),
            *("--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)),
            *("--configfile", str(self.folder / "config.yaml"), "--cores", "2"),
        ]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )

    def bambo(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of bambo's, in the workflow's folder."""
        command = [sys.executable, "-m", "bambo", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def table(self, name: str) -> pd.DataFrame:
        """A table as text, without what differs between two equal runs."""
        frame = pd.read_csv(self.results / "tables" / f"{name}.csv", dtype=str)
        return frame.drop(columns=[*MEASURED, "hours"], errors="ignore")

    def succeed(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def scores(self) -> dict[str, bytes]:
        """scores.json of every candidate: it holds measured seconds, so a second evaluation would change it."""
        paths = self.results.glob("candidates/*/scores.json")
        return {path.parent.name: path.read_bytes() for path in paths}
