"""Searches side by side, a finer one that starts from a coarser one, made-up scores: from the config to the figure."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from runs import ROOT, Workflow, small_config

CHEAP = {"restarts": 2, "raw_samples": 16, "mc_samples": 16, "n_initial": 5, "batch_size": 2, "iterations": 1}
SEARCHES = {
    "blocks": {"seeds": [0, 1], **CHEAP},
    "layers": {"preset": "layer-wise", "start_from": "blocks-0", **CHEAP},
    "modules": {"granularity": "module", "start_from": "layers", "box": 0.2, "schedule": "async", **CHEAP},
    "single": {"preset": "model-grid", "weights": [0.3, 0.7]},
}


def config():
    changes = small_config(run="compare", searches=SEARCHES)
    changes["evaluation"] |= {"engine": "simulated"}
    return changes


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    workflow = Workflow(tmp_path_factory.mktemp("compare"), config())
    return workflow, workflow.succeed()


def proposals(workflow: Workflow, search: str) -> list[dict]:
    paths = sorted((workflow.results / "search" / search / "proposals").glob("*.json"))
    found = [json.loads(path.read_text()) for path in paths]
    return sorted(found, key=lambda proposal: proposal["iteration"])


def asked(workflow: Workflow, search: str) -> list[tuple[str, str, list[float]]]:
    """Id, origin and point of every candidate of a search."""
    keys = ("candidates", "origin", "variables")
    made = proposals(workflow, search)
    return [row for each in made for row in zip(*(each[key] for key in keys), strict=True)]


def ids(workflow: Workflow, search: str) -> list[str]:
    return [id for id, _, _ in asked(workflow, search)]


@pytest.mark.parametrize(("fine", "coarse"), [("layers", "blocks-0"), ("modules", "layers")])
def test_a_finer_search_takes_over_what_a_coarser_one_found(compared, fine, coarse):
    workflow, _ = compared
    known, (first, *others) = ids(workflow, coarse), proposals(workflow, fine)
    assert set(first["start"]["observed"]) == set(known)
    assert all(proposal["start"] == first["start"] for proposal in others)
    of = {origin: id for id, origin, _ in asked(workflow, fine)}
    front = [id for id in first["start"]["front"] if id != of["balanced"]]
    assert of["start"] == front[0]  # one of the two places beside the end points and the balance
    assert [origin for _, origin, _ in asked(workflow, fine)].count("start") == 1
    assert {id for id, origin, _ in asked(workflow, fine) if origin == "acquisition"}.isdisjoint(known)
    assert len(asked(workflow, fine)) == 7


def test_a_box_is_kept_to(compared):
    workflow, _ = compared
    front = set(proposals(workflow, "modules")[0]["start"]["front"])
    fine, coarse = (
        json.loads((workflow.results / "search" / search / "variables.json").read_text())["variables"]
        for search in ("modules", "layers")
    )
    places = {group: place for place, variable in enumerate(coarse) for group in variable["groups"]}
    owners = [places[re.sub(r"\.(attention|mlp)$", "", variable["groups"][0])] for variable in fine]
    inside = np.array([point for id, _, point in asked(workflow, "layers") if id in front])[:, owners]
    made = [point for _, origin, point in asked(workflow, "modules") if origin in ("sobol", "acquisition")]
    assert len(made) == 3
    assert (np.array(made) >= inside.min(axis=0) - 0.200001).all()
    assert (np.array(made) <= inside.max(axis=0) + 0.200001).all()


def test_the_table_counts_what_each_needed(compared):
    workflow, said = compared
    table = pd.read_csv(workflow.results / "tables/searches.csv").set_index("search")
    assert list(table.index) == ["blocks-0", "blocks-1", "layers", "modules", "single", "blocks", "blocks"]
    assert (table["warning"] == "simulated").all()
    shared = set(ids(workflow, "layers")) & set(ids(workflow, "blocks-0"))
    assert table.loc["layers", "evaluations_total"] == 14 - len(shared)
    every = {id for search in ("blocks-0", "layers", "modules") for id in ids(workflow, search)}
    assert table.loc["modules", "evaluations_total"] == len(every)
    assert table.loc["modules", "hours_reckoned"] > table.loc["layers", "hours_reckoned"]
    assert (workflow.results / "figures/searches.svg").stat().st_size > 10_000
    assert "searches.modules: 21 evaluations of 26 variables, 0.8 each" in said


def test_nothing_is_left_to_do_and_a_lost_proposal_comes_again(compared):
    workflow, _ = compared
    assert "Nothing to be done" in workflow.succeed("-n")
    path = workflow.results / "search/layers/proposals/t001.json"
    before, scores = json.loads(path.read_text()), workflow.scores()
    path.unlink()
    workflow.succeed(str(path.relative_to(workflow.folder)))
    after = json.loads(path.read_text())
    keys = ("candidates", "variables", "start")
    assert [after[key] for key in keys] == [before[key] for key in keys]
    assert workflow.scores() == scores
    for search in ("layers", "modules"):
        assert ", 0 not equal" in workflow.bambo("replay", "results/compare", "--search", search).stdout


def test_the_shipped_comparison_is_planned(tmp_path: Path):
    given = yaml.safe_load((ROOT / "config/compare.yaml").read_text())
    given["sources"] = small_config()["sources"]
    tasks = small_config()["evaluation"]["tasks"]
    for name, task in given["evaluation"]["tasks"].items():
        task["data"] = tasks[name]["data"]
    given["importance"]["prompts"] = str(ROOT / given["importance"]["prompts"])
    said = Workflow(tmp_path, given).succeed("-n")
    assert all(f"search/{name}-2/" in said for name in ("bambo", "ap-bmm", "layers-then"))
