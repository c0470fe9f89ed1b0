"""`snakemake smoke` for real on the embedded pair, and the plans of the configs for Qwen3-4B."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import ENVIRONMENT, ROOT, Workflow, small_config

COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def smoked(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("smoked"), small_config())
    workflow.output = workflow.succeed("smoke")
    return workflow


def test_shows_texts_and_the_estimate(smoked: Workflow) -> None:
    text = (smoked.results / "smoke/report.txt").read_text()
    assert text in smoked.output
    assert text.count("of 4 right") == 6  # three models, two benchmarks
    assert re.search(r"question 0 \(tiny_gpqa-0000\): right; box A, target \(A\); \d+ tokens, ended\n", text)
    assert "measured by the smoke run" in text
    assert re.search(r"evaluations +11: 3 end points, blocks 4 \+ 2 x 2", text)
    assert "chat template: that of instruct; thinking has another one" in text
    estimate = smoked.bambo("cost", "config.yaml").stdout
    assert estimate.strip() in text


def test_leaves_the_run_to_be_done(smoked: Workflow) -> None:
    assert len(smoked.scores()) == 3
    assert not list(smoked.results.glob("candidates/*/model"))
    assert not (smoked.results / "endpoints").exists()
    assert not (smoked.results / "search").exists()
    assert "Nothing to be done" in smoked.succeed("smoke", "--dry-run")


def test_status_does_not_take_it_for_the_run(smoked: Workflow) -> None:
    status = smoked.bambo("status", "results/small").stdout
    assert "smoke run: 3 done\n  ###\n" in status
    assert "blocks: 8 planned" in status
    assert "Left: 10 evaluations; how long one takes is known after the first" in status
    assert "3 candidates, 0 proposals: all whole" in smoked.bambo("check", "results/small").stdout


def test_the_run_itself_plans_nothing_of_it(tmp_path: Path) -> None:
    plan = Workflow(tmp_path, small_config()).succeed("--dry-run")
    assert "smoke" not in plan.replace(str(tmp_path), "")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache of the hub that holds the embedded pair as org/thinking and org/instruct."""
    monkeypatch.setitem(ENVIRONMENT, "HF_HOME", str(tmp_path / "hf"))
    for name in ("thinking", "instruct"):
        folder = tmp_path / f"hf/hub/models--org--{name}"
        shutil.copytree(ROOT / "resources/models" / name, folder / "snapshots" / COMMIT)
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text(COMMIT)
    return tmp_path / "hf/hub"


def on_the_hub() -> dict[str, Any]:
    return small_config(sources={name: {"model": f"org/{name}"} for name in ("thinking", "instruct")})


def test_templates_of_the_hub_are_compared_once_they_are_here(hub: Path, tmp_path: Path) -> None:
    workflow = Workflow(tmp_path / "run", on_the_hub())
    said = workflow.succeed("results/small/smoke/candidates.json", "results/small/endpoints/candidates.json")
    assert said.count("chat template: that of instruct; thinking has another one") == 2
    sizes = workflow.bambo("cost", "config.yaml").stdout
    assert "size of a model: 1.2 MB" in sizes
    assert "downloads      org/thinking and org/instruct" in sizes


def test_a_template_that_the_hub_lacks_stops_before_any_evaluation(hub: Path, tmp_path: Path) -> None:
    (hub / f"models--org--instruct/snapshots/{COMMIT}/chat_template.jinja").unlink()
    workflow = Workflow(tmp_path / "run", on_the_hub())
    done = workflow.run()
    assert done.returncode == 1
    assert 'error: files_from: found "instruct", a source without a chat template' in done.stderr
    assert not (workflow.results / "candidates").exists()


def test_simulated_engines_show_that_the_path_works(tmp_path: Path) -> None:
    config = small_config()
    config["evaluation"] |= {"engine": "simulated"}
    output = Workflow(tmp_path, config).succeed("smoke")
    assert "SIMULATED: no model was asked" in output


@pytest.mark.parametrize("name", ["qwen3-4b", "qwen3-4b-paper"])
@pytest.mark.parametrize("options", [["--cores", "2"], ["--profile", str(ROOT / "slurm")]])
def test_the_papers_run_is_planned_without_a_network(name: str, options: list[str], tmp_path: Path) -> None:
    def jobs(*target: str) -> dict[str, int]:
        command = [sys.executable, "-m", "snakemake", *target, "--dry-run", *options]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
        command += ["--configfile", str(ROOT / f"config/{name}.yaml")]
        environment = {**ENVIRONMENT, "HF_HOME": str(tmp_path / "empty"), "http_proxy": "http://127.0.0.1:9"}
        environment["https_proxy"] = environment["http_proxy"]
        environment.pop("SLURM_CONF", None)
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        table = done.stdout.partition("Job stats:")[2].partition("total")[0]
        return {rule: int(count) for rule, count in re.findall(r"^([a-z_]+) +(\d+)$", table, re.MULTILINE)}

    assert jobs() == {
        **{"source": 2, "benchmark": 2, "differences": 1, "variables": 1, "blocks": 1},
        **{
            "endpoints": 1,
            "normalisation": 1,
            "propose": 1,
            "complete": 1,
            "tables": 1,
            "figures": 1,
            "report": 1,
            "all": 1,
        },
    }
    assert jobs("smoke") == {"source": 2, "benchmark": 2, "smoke_candidates": 1, "smoke": 1}
    assert not (tmp_path / "results").exists()
