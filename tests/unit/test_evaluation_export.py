"""What plain lm-eval makes of our task files is what we make of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from bambo.errors import BadInput
from bambo.evaluation import evaluate, load_engine
from bambo.evaluation.engine import Machine
from bambo.evaluation.export import write_tasks
from bambo.files import read_json, write_json
from pico_chat import aime_task, chat_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo's model, without the limit of its generation_config.json, which lm-eval would put above the task's."""
    path = Path(shutil.copytree(ROOT / "resources/models/thinking", tmp_path / "model"))
    settings = read_json(path / "generation_config.json")
    del settings["max_new_tokens"]
    write_json(path / "generation_config.json", settings)
    return path


def _plain(
    model: Path, folder: Path, tasks: list[str], output: Path
) -> tuple[dict, dict[str, dict[int, float]]]:
    """Results of the command `lm_eval`, and its scores of each question by benchmark and question."""
    command = [
        *(sys.executable, "-m", "lm_eval", "run", "--include_path", str(folder), "--tasks", ",".join(tasks)),
        *("--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"),
        *("--apply_chat_template", "--batch_size", "12", "--output_path", str(output), "--log_samples"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    [path] = output.rglob("results_*.json")
    correct = {}
    for task in tasks:
        [samples] = output.rglob(f"samples_{task}_*.jsonl")
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        correct[task] = {row["doc_id"]: row["boxed_match"] for row in rows if row["filter"] == "boxed"}
    return read_json(path)["results"], correct


def test_plain_lm_eval_gives_the_same_scores(model: Path, tmp_path: Path) -> None:
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())["evaluation"]["tasks"]
    # Of 48 tokens some thoughts are cut.
    tasks = {name: {**task, "data": str(ROOT / task["data"])} for name, task in demo.items()}
    tasks["tiny_gpqa"] |= {"limit": 24, "max_tokens": 160}
    tasks["tiny_aime"] |= {"limit": 24, "max_tokens": 48}
    write_tasks(tasks, tmp_path / "none", tmp_path / "tasks")
    theirs, correct = _plain(model, tmp_path / "tasks", list(tasks), tmp_path / "theirs")
    recipe = chat_recipe(tasks)
    engine = load_engine(recipe["evaluation"], model, Machine(batch_size=12))
    ours = evaluate(recipe, engine, tmp_path / "ours")["benchmarks"]
    samples = pd.read_parquet(tmp_path / "ours" / "samples.parquet")
    assert 0 < ours["tiny_aime"]["truncated"] < 1
    for name in tasks:
        assert theirs[name]["boxed_match,boxed"] == pytest.approx(ours[name]["accuracy"])
        assert theirs[name]["boxed_match_stderr,boxed"] == pytest.approx(ours[name]["accuracy_stderr"])
        rows = samples[samples["benchmark"] == name]
        assert correct[name] == dict(zip(rows["question"], rows["correct"], strict=True))
    harness = read_json(tmp_path / "ours/lm_eval/results.json")["results"]
    for name, metric in (("tiny_gpqa", "exact_match,flexible-extract"), ("tiny_aime", "exact_match,none")):
        assert theirs[name][metric] == pytest.approx(harness[name][metric])


def test_the_command_writes_what_the_config_names(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bambo", "tasks", "config/config.yaml", str(tmp_path / "tasks")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "--tasks tiny_gpqa,tiny_aime --apply_chat_template" in done.stdout
    assert {path.name for path in (tmp_path / "tasks").iterdir()} == {
        *("tiny_gpqa", "tiny_gpqa.yaml", "tiny_aime", "tiny_aime.yaml", "utils.py")
    }
    (tmp_path / "bad.yaml").write_text("run: [")
    done = subprocess.run(
        [*command[:-2], str(tmp_path / "bad.yaml"), "x"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_questions_that_are_gone_are_named(tmp_path: Path) -> None:
    from bambo.evaluation.export import Boxed

    write_tasks({"b": aime_task(tmp_path, limit=2)}, tmp_path, tmp_path / "tasks")
    config = {"task": "b", "bambo": {"task": "aime25"}, "generation_kwargs": {}}

    class Here(Boxed):
        folder = tmp_path / "tasks"

    assert len(Here(config | {"bambo": {"task": "aime25", "limit": 2}}).eval_docs) == 2
    Here.folder = tmp_path
    with pytest.raises(BadInput, match=r"b\.yaml: .* no folder b"):
        Here(config)
