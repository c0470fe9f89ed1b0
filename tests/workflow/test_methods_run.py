"""Methods, searched parameters and several sources for real: merges, evaluations and tables of small runs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bambo.files import read_json
from bambo.methods import METHODS
from bambo.search.decision import SPARSITY
from runs import ENVIRONMENT, ROOT, Workflow, small_config

BASE = {"model": str(ROOT / "resources/models/base")}
CHEAP = {"restarts": 2, "raw_samples": 16, "mc_samples": 16}
# A few questions: enough to tell the end points apart.
FEW = small_config()["evaluation"] | {"limit": 12}


def recipes(workflow: Workflow) -> dict[str, dict[str, Any]]:
    return {path.parent.name: read_json(path) for path in workflow.results.glob("candidates/*/recipe.json")}


def by_search(workflow: Workflow) -> dict[str, pd.DataFrame]:
    table = pd.read_csv(workflow.results / "tables/observations.csv", dtype={"candidate": str})
    return dict(list(table.groupby("search")))


def test_three_sources(tmp_path: Path) -> None:
    config = small_config(evaluation=FEW)
    config["sources"]["base"] = BASE
    config["searches"] = {
        "blocks": {"n_initial": 5, "iterations": 1, "batch_size": 2, **CHEAP},
        "ties": {"preset": "model-grid", "method": "ties", "weights": [[0.4, 0.4, 0.2], [0, 0, 1]]},
    }
    workflow = Workflow(tmp_path, config)
    output = workflow.succeed()
    assert "searches.ties: no base is set, and base, the last source, serves as the base of ties" in output
    made = recipes(workflow)
    assert all(list(each["sources"]) == ["thinking", "instruct", "base"] for each in made.values())
    found = by_search(workflow)
    assert found["blocks"]["origin"].tolist() == [
        *["all-base", "all-thinking", "all-instruct", "balanced", "sobol", "acquisition", "acquisition"]
    ]
    for text in found["blocks"]["variables"]:
        names = list(json.loads(text))
        assert names[-2:] == ["head: thinking", "head: instruct (of the rest)"]
    # All weight on the base is the base, under every method: it is evaluated once.
    ends = read_json(workflow.results / "endpoints/candidates.json")["end_points"]
    ties = found["ties"]["candidate"].tolist()
    assert made[ties[0]]["method"] == "ties"
    assert ties[1] == ends["base"] == found["blocks"]["candidate"].iloc[0]
    figures = {path.stem for path in (workflow.results / "figures").iterdir()}
    assert figures == {
        *("partition", "objectives", "benchmarks", "preferences", "granularities", "progress"),
        *("searches", "surrogates", "weights", "parallel", "timeline"),
    }
    assert "Nothing to be done" in workflow.succeed("-n")
    # What the first candidate computed of the sources serves the others.
    assert any((workflow.results / "sources/statistics").iterdir())


def test_a_density_a_block_is_searched_beside_the_weights(tmp_path: Path) -> None:
    search = {"method": "ties", "density": {"min": 0.1, "max": 0.5}, "n_blocks": 2}
    config = small_config(
        base=BASE,
        evaluation=FEW,
        searches={"ties": {**search, "n_initial": 4, "iterations": 1, "batch_size": 2, **CHEAP}},
    )
    workflow = Workflow(tmp_path, config)
    workflow.succeed()
    made, own = recipes(workflow), by_search(workflow)["ties"]
    assert len(own) == 6
    for candidate, text in zip(own["candidate"], own["variables"], strict=True):
        recipe, shown = made[candidate], json.loads(text)
        assert recipe["method"] == "ties"
        assert recipe["base"]["path"] == BASE["model"]
        densities = {name: value for name, value in shown.items() if name.endswith(": density")}
        assert len(densities) == len(shown) / 2
        assert all(0.1 <= value <= 0.5 for value in densities.values())
        assert recipe["parameters"]["density"]["embeddings"] == densities["embeddings: density"]
    # The sources are no merges of this method, and are in the set as they were measured.
    ends = read_json(workflow.results / "endpoints/candidates.json")["end_points"]
    assert not {*ends.values()} & {*own["candidate"]}
    pareto = workflow.table("pareto")
    given = pareto[pareto["candidate"].isin(ends.values()) & (pareto["search"] == "ties")]
    assert set(given["variables"]) == {"{}"}
    assert "Nothing to be done" in workflow.succeed("-n")


def test_mm_mo_goes_by_sparsity_too(tmp_path: Path) -> None:
    search = {"preset": "mm-mo", "n_initial": 4, "iterations": 2, "batch_size": 2, **CHEAP}
    workflow = Workflow(tmp_path, small_config(base=BASE, evaluation=FEW, searches={"single": search}))
    workflow.succeed()
    proposals = [read_json(path) for path in sorted(workflow.results.glob("search/single/proposals/*.json"))]
    assert [len(each["sparsity"]) for each in proposals] == [4, 2, 2]
    found = [own for each in proposals for own in each["sparsity"]]
    assert all(own < 0 for own in found)
    assert len(set(found)) > 4
    for each in proposals[1:]:
        assert list(each["surrogate"]) == ["reasoning", "efficiency", SPARSITY]
    # Its front is that of the config's objectives.
    assert list(workflow.table("hypervolume").columns).count("hypervolume") == 1
    done = workflow.bambo("replay", str(workflow.results.relative_to(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 decisions, 3 equal" in done.stdout


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """Every method with one weight for the whole model, without a base and simulated."""
    grids = {name: {"preset": "baseline", "method": name, "weights": [0.3, 0.7]} for name in METHODS}
    blocks = {"n_initial": 4, "iterations": 1, "batch_size": 2, **CHEAP}
    evaluation = small_config()["evaluation"] | {"engine": "simulated"}
    config = small_config(evaluation=evaluation, searches={"blocks": blocks, **grids})
    workflow = Workflow(tmp_path_factory.mktemp("compared"), config)
    workflow.output = workflow.succeed()
    return workflow


def test_a_comparison_without_a_base_leaves_out_what_needs_one(compared: Workflow) -> None:
    table = pd.read_csv(compared.results / "tables/comparison.csv")
    reasons = table.set_index("search")["reason"]
    others = [name for name in METHODS if name not in ("ties", "della")]
    assert table["search"].unique().tolist() == ["blocks", *others, "ties", "della"]
    for name in ("ties", "della"):
        assert reasons[name].startswith(
            "left out: no base is set, and instruct, the last source, serves as the base"
        )
        assert f"searches.{name}: left out" in compared.output
        assert not (compared.results / "search" / name).exists()
    assert "Searches side by side" in compared.output
    assert "  ties: left out: no base is set" in compared.output


def test_a_comparison_shares_what_is_one_model(compared: Workflow) -> None:
    found = by_search(compared)
    assert found["linear"]["candidate"].tolist() == found["task_arithmetic"]["candidate"].tolist()
    assert len({*found["linear"]["candidate"]} & {*found["dare_linear"]["candidate"]}) == 0
    log = (compared.results / "logs/variables/dare_ties.log").read_text()
    assert "with one task vector the consensus changes nothing" in log


def test_a_base_joins_a_comparison_that_was_begun_without_one(compared: Workflow) -> None:
    config = small_config()
    config |= {"base": BASE, "evaluation": config["evaluation"] | {"engine": "simulated"}}
    config["searches"] = {"blocks": {"n_initial": 4, "iterations": 1, "batch_size": 2, **CHEAP}}
    config["searches"]["ties"] = {"preset": "baseline", "method": "ties", "weights": [0.3, 0.7]}
    compared.write(config)
    before = compared.scores()
    compared.succeed()
    assert len(compared.scores()) == len(before) + 2
    assert compared.scores().items() >= before.items()


def test_the_papers_comparison_is_planned_without_a_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(tmp_path), "--profile", str(ROOT / "slurm")]
    command += ["--configfile", str(ROOT / "config/baselines.yaml")]
    environment = {**ENVIRONMENT, "HF_HOME": str(tmp_path / "empty"), "https_proxy": "http://127.0.0.1:9"}
    environment.pop("SLURM_CONF", None)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = dict(re.findall(r"^([a-z_]+) +(\d+)$", done.stdout, re.MULTILINE))
    assert {rule: jobs[rule] for rule in ("source", "base", "variables", "propose")} == {
        **{"source": "2", "base": "1", "variables": "12", "propose": "12"}
    }
