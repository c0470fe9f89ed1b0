"""A prior-guided search on the embedded pair: both sources run over prompts, and proposals replay."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from bambo.records import read_record
from runs import ROOT, Workflow, small_config

PROMPTS = str(ROOT / "resources/prompts/tiny.jsonl")
CHEAP = {"restarts": 2, "raw_samples": 16, "mc_samples": 16, "n_initial": 3, "batch_size": 2}
SEARCHES = {
    "ap": {"preset": "ap-bmm", "iterations": 1, "slots": 2, **CHEAP},
    "blocks": {"lengthscale_prior": "importance", "iterations": 0, **CHEAP},
    "plain": {"iterations": 0, **CHEAP},
}


def test_a_prior_guided_search_from_start_to_end(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path, small_config(importance={"prompts": PROMPTS}, searches=SEARCHES))
    workflow.succeed()
    run = workflow.results

    activations = pd.read_parquet(run / "importance/activations.parquet")
    assert len(activations) == 64 * 14
    assert set(activations["source"]) == {"thinking"}
    assert ((activations["discrepancy"] > -1e-9) & (activations["discrepancy"] < 2)).all()
    table = pd.read_csv(run / "importance/importance.csv")
    assert list(table["granularity"].unique()) == ["layer"]
    assert table["importance"].between(0.05, 1).all()
    assert table["importance"].nunique() > 10
    assert (run / "figures/importance.svg").stat().st_size > 5000

    searches = json.loads((run / "partition/blocks.json").read_text())["searches"]
    values = table.set_index("group")["importance"]
    for name in ("ap", "blocks"):
        for variable in searches[name]["variables"]:
            assert np.isclose(variable["importance"], values[variable["groups"]].mean())
    assert not any("importance" in variable for variable in searches["plain"]["variables"])

    proposals = sorted((run / "search/ap/proposals").glob("*.json"))
    decided = [read_record(path, "proposal") for path in proposals]
    guided = [proposal for proposal in decided if proposal["surrogate"] is not None]
    assert guided
    for proposal in guided:
        assert set(proposal["coverage"]) == {"scaled_acquisition", "gap", "proximity"}
        assert len(proposal["surrogate"]["reasoning"]["lengthscales"]) == len(searches["ap"]["variables"])
    assert "Nothing to be done" in workflow.succeed("-n")
    replayed = workflow.bambo("replay", str(run))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_scored_questions_are_no_prompts_however_they_are_asked(tmp_path: Path) -> None:
    """As text of the data before any job; with the options in the order in which they are asked by the job."""
    config = small_config(
        importance={"prompts": str(tmp_path / "prompts.txt")}, searches={"ap": SEARCHES["ap"]}
    )
    workflow = Workflow(tmp_path, config)
    row = pd.read_csv(ROOT / "resources/benchmarks/tiny_gpqa.csv").iloc[3]
    (tmp_path / "prompts.txt").write_text(f"Start 1: a+1 = ?\n{row['Question'].upper()}\n")
    done = workflow.run("activations")
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "importance.prompts" in line]
    assert "prompt 2 of" in lines[0]
    assert "a question of evaluation.tasks.tiny_gpqa" in lines[0]
    assert not workflow.results.exists()
