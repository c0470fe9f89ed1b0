"""A user's mistake stops the workflow before any job runs, with one line that names the place."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT, Workflow, small_config


def misspelt_key(config: dict[str, Any], folder: Path) -> None:
    config["searches"]["blocks"]["iteratons"] = config["searches"]["blocks"].pop("iterations")


def wrong_type(config: dict[str, Any], folder: Path) -> None:
    config["evaluation"]["batch_size"] = "many"


def missing_source(config: dict[str, Any], folder: Path) -> None:
    config["sources"]["thinking"]["model"] = "./nowhere"


def other_shape(config: dict[str, Any], folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = AutoConfig.from_pretrained(ROOT / "resources/models/thinking")
    settings.intermediate_size *= 2
    AutoModelForCausalLM.from_config(settings).bfloat16().save_pretrained(folder / "wide")
    config["sources"]["thinking"]["model"] = "./wide"


def truncated_file(config: dict[str, Any], folder: Path) -> None:
    copy_source(config, folder)
    weights = folder / "copy/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def more_blocks_than_layers(config: dict[str, Any], folder: Path) -> None:
    config["blocks"]["n_blocks"] = 1000


def missing_column(config: dict[str, Any], folder: Path) -> None:
    rows = [{"problem": "Start 3: a+2 = ?", "id": 0}]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config["evaluation"]["tasks"]["tiny_aime"]["data"] = "questions.jsonl"


def large_batch(config: dict[str, Any], folder: Path) -> None:
    config["searches"]["blocks"] |= {"evaluations": 6, "batch_size": 4}


def unknown_task(config: dict[str, Any], folder: Path) -> None:
    config["evaluation"]["tasks"]["tiny_aime"]["task"] = "aime_25"


def unwritable_results(config: dict[str, Any], folder: Path) -> None:
    # A file where the folder should be: rights would not stop a superuser.
    (folder / "results").write_text("")


def weights_of_three(config: dict[str, Any], folder: Path) -> None:
    config["sources"]["base"] = {"model": str(ROOT / "resources/models/base")}
    config["searches"]["single"]["weights"] = [[0.5, 0.3, 0.2], [0.5, 0.3, 0.3]]


def method(name: str, **parameters: Any) -> Callable[[dict[str, Any], Path], None]:
    def mistake(config: dict[str, Any], folder: Path) -> None:
        config["base"] = {"model": str(ROOT / "resources/models/base")}
        config["searches"]["blocks"] |= {"method": name, **parameters}

    mistake.__name__ = name
    return mistake


def weight_that_cancels(config: dict[str, Any], folder: Path) -> None:
    config["searches"]["blocks"]["method"] = "ties"


def missing_base(config: dict[str, Any], folder: Path) -> None:
    config["base"] = {"model": "./nowhere"}


def base_of_other_shape(config: dict[str, Any], folder: Path) -> None:
    other_shape(config, folder)
    config["base"], config["sources"] = config["sources"]["thinking"], small_config()["sources"]
    config["searches"]["blocks"]["method"] = "dare_ties"


def copy_source(config: dict[str, Any], folder: Path) -> None:
    shutil.copytree(ROOT / "resources/models/thinking", folder / "copy")
    config["sources"]["thinking"]["model"] = "./copy"


def only_error(stderr: str) -> str:
    """The one line of the mistake; Snakemake itself says no more than which profile it uses."""
    [line] = [
        line for line in stderr.strip().splitlines() if not line.startswith("Using workflow specific profile")
    ]
    assert line.startswith("error: ")
    return line


CASES: list[tuple[Callable[[dict[str, Any], Path], None], list[str]]] = [
    (misspelt_key, ["searches.blocks.iteratons", "iterations"]),
    (wrong_type, ["evaluation.batch_size", "many"]),
    (missing_source, ["sources.thinking.model", "nowhere"]),
    (other_shape, ["model.layers.0.mlp.", "shape"]),
    (truncated_file, ["copy/model.safetensors"]),
    (more_blocks_than_layers, ["blocks.n_blocks", "1000"]),
    (missing_column, ["questions.jsonl", "answer"]),
    (large_batch, ["searches.blocks.batch_size", "budget"]),
    (unknown_task, ["evaluation.tasks.tiny_aime.task", "aime25"]),
    (unwritable_results, ["results"]),
    (weights_of_three, ["searches.single.weights[1]", "[0.5, 0.3, 0.3]", "sum 1"]),
    (method("dare_ties", density=1.5), ["searches.blocks.density", "1.5", "at most 1"]),
    (method("breadcrumbs", gamma=0.2), ["searches.blocks.gamma", "0.2", "density 0.9"]),
    (
        method("della", epsilon={"min": 0.1, "max": 0.6}),
        ["searches.blocks.epsilon", "0.6", "between 0 and 1"],
    ),
    (weight_that_cancels, ["searches.blocks.method", "one task vector", "thinking", "without_base"]),
    (missing_base, ["base.model", "nowhere"]),
    (base_of_other_shape, ["model.layers.0.mlp.", "shape"]),
]


@pytest.mark.parametrize(("mistake", "words"), CASES, ids=[case[0].__name__ for case in CASES])
def test_stops_before_any_job(
    mistake: Callable[[dict[str, Any], Path], None], words: list[str], tmp_path: Path
) -> None:
    config = small_config()
    mistake(config, tmp_path)
    done = Workflow(tmp_path, config).run()
    assert done.returncode == 1
    line = only_error(done.stderr)
    for word in words:
        assert word in line
    assert not (tmp_path / "results" / "small").exists()


def test_nan_in_a_source_is_found_by_its_own_job(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    config = small_config()
    copy_source(config, tmp_path)
    tensors = load_file(tmp_path / "copy/model.safetensors")
    tensors["model.layers.3.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, tmp_path / "copy/model.safetensors", metadata={"format": "pt"})
    done = Workflow(tmp_path, config).run()
    assert done.returncode == 1
    assert "model.layers.3.mlp.up_proj.weight holds NaN" in done.stderr
    assert "Traceback" not in done.stderr


def test_swapped_expert_and_base_stop_before_the_search(finished: Workflow, tmp_path: Path) -> None:
    config = small_config()
    reasoning = config["objectives"]["reasoning"]
    reasoning["expert"], reasoning["base"] = reasoning["base"], reasoning["expert"]
    workflow = Workflow(tmp_path, config)
    # The end points' scores are the same under both orders: no need to make them again.
    shutil.copytree(
        finished.results / "candidates", workflow.results / "candidates", copy_function=shutil.copy2
    )
    done = workflow.run()
    assert done.returncode == 1
    assert "objectives.reasoning" in done.stderr
    assert "swapped" in done.stderr
    assert not (workflow.results / "search/blocks/proposals").exists()


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [("searches.blocks", "seed", 1), ("evaluation", "limit", 20), ("searches.blocks", "kernel", "matern52")],
)
def test_other_settings_under_the_same_run_name(
    finished: Workflow, tmp_path: Path, table: str, key: str, value: Any
) -> None:
    workflow = Workflow(tmp_path, small_config())
    shutil.copytree(finished.results, workflow.results, copy_function=shutil.copy2)
    config = small_config()
    target: Any = config
    for name in table.split("."):
        target = target[name]
    target[key] = value
    workflow.write(config)
    done = workflow.run("--dry-run")
    assert done.returncode == 1
    line = only_error(done.stderr)
    assert f"{table}.{key}" in line
    assert "another name" in line


def test_a_config_replaces_the_demo_and_takes_nothing_from_it(tmp_path: Path) -> None:
    config = small_config()
    config["sources"] = {"left": config["sources"]["thinking"], "right": config["sources"]["instruct"]}
    config["files_from"] = "right"
    config["evaluation"]["tasks"] = {"only": config["evaluation"]["tasks"]["tiny_aime"]}
    config["confirm"] = {}  # which names the other benchmarks
    config["searches"] = {"mine": {"preset": "bambo"}}
    config["objectives"] = {
        "skill": {"metric": "accuracy", "expert": "left", "base": "right"},
        "thrift": {"metric": "tokens", "expert": "right", "base": "left"},
    }
    workflow = Workflow(tmp_path, config)
    shown = workflow.succeed("--dry-run", "--quiet", "progress")
    assert "search/mine" in shown
    for key in ["sources/thinking", "sources/instruct", "search/blocks", "search/single", "tiny_gpqa"]:
        assert key not in shown
