"""Two GPUs, as far as `nvidia-smi` says: every evaluation has one of its own, without any option."""

import os
import subprocess
from pathlib import Path

import faulty
from runs import ENVIRONMENT, Workflow, small_config

UUIDS = ["GPU-aaaa", "GPU-bbbb"]


def test_no_two_evaluations_hold_the_same_gpu(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\n" + "".join(f"echo {uuid}\n" for uuid in UUIDS))
    (tools / "nvidia-smi").chmod(0o755)
    config = small_config()
    config["searches"] = {"single": {"preset": "model-grid", "weights": [0.2, 0.4, 0.6, 0.8]}}
    config["evaluation"] |= {
        "device": "auto",
        "python": str(faulty.interpreter(tmp_path, {}, without_cuda=True)),
    }
    workflow = Workflow(tmp_path / "run", config)
    done = subprocess.run(
        [*workflow.command(), "--cores", "6"],
        cwd=workflow.folder,
        env={**ENVIRONMENT, "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    at_work: dict[str, str] = {}
    most = 0
    for line in (tmp_path / "devices.log").read_text().splitlines():
        event, candidate, uuid = line.split()
        if event == "begin":
            assert uuid in UUIDS
            assert uuid not in at_work, f"{candidate} and {at_work[uuid]} hold {uuid}"
            at_work[uuid] = candidate
        else:
            assert at_work.pop(uuid) == candidate
        most = max(most, len(at_work))
    assert most == len(UUIDS), "both are used"
    assert len(workflow.scores()) == 7
