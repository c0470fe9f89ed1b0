"""Searches of three objectives, and of others than accuracy and tokens: real runs, a few evaluations each."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bambo.report.tables import objective_names, raw_metrics
from runs import Workflow, small_config

LONG = {"expert": "thinking", "base": "instruct"}
SHORT = {"expert": "instruct", "base": "thinking"}
REASONING = {"metric": "accuracy", **LONG}


def run(folder: Path, objectives: dict[str, Any], **changes: Any) -> Workflow:
    config = small_config(objectives=objectives, **changes)
    config["searches"].pop("single")
    config.pop("reference_point")
    config["searches"]["blocks"] |= {"n_initial": 4, "iterations": 1, "batch_size": 2}
    workflow = Workflow(folder, config)
    workflow.output = workflow.succeed()
    return workflow


def naive_hypervolume(Y: np.ndarray, corner: float) -> float:
    """Volume of the cells of the grid through all points that some point covers."""
    edges = [np.unique(np.append(column, corner)) for column in np.maximum(Y, corner).T]
    total = 0.0
    for low in product(*(range(len(own) - 1) for own in edges)):
        upper = np.array([own[i + 1] for own, i in zip(edges, low, strict=True)])
        if (upper <= Y).all(axis=1).any():
            total += np.prod([own[i + 1] - own[i] for own, i in zip(edges, low, strict=True)])
    return total


def test_three_objectives_from_config_to_figures(tmp_path: Path) -> None:
    objectives = {
        "science": {**REASONING, "benchmarks": ["tiny_gpqa"]},
        "mathematics": {**REASONING, "benchmarks": ["tiny_aime"]},
        "efficiency": {"metric": "tokens", **SHORT},
    }
    workflow = run(tmp_path, objectives)
    table = pd.read_parquet(workflow.results / "tables/observations.parquet")
    names = objective_names(table)
    assert names == list(objectives)
    own = table[table["search"] == "blocks"]
    assert len(own) == 6
    # Both end points are of the initial design, so that the search's own rows are its set.
    course = pd.read_csv(workflow.results / "tables/hypervolume.csv").query("search == 'blocks'")
    expected = naive_hypervolume(own[names].to_numpy(), -0.1)
    assert course["hypervolume"].iloc[-1] == pytest.approx(expected, rel=1e-5)
    assert (course["reference_point"] == "(-0.1, -0.1, -0.1)").all()
    proposal = json.loads((workflow.results / "search/blocks/proposals/t001.json").read_text())
    assert set(proposal["surrogate"]) == set(objectives)
    selection = pd.read_csv(workflow.results / "tables/selection.csv")
    assert {text.count("-") for text in selection["preference"].dropna()} <= {2}
    for name in ("partition", "objectives", "progress", "weights"):
        assert (workflow.results / f"figures/{name}.svg").stat().st_size > 0
    assert "science  mathematics  efficiency" in workflow.output
    status = workflow.bambo("status", str(workflow.results))
    assert status.returncode == 0, status.stderr
    assert f"hypervolume {course['hypervolume'].iloc[-1]:.4f}" in status.stdout


def test_latency_flops_and_a_metric_of_the_harness(tmp_path: Path) -> None:
    objectives = {
        "match": {"metric": "exact_match,none", "benchmarks": ["tiny_aime"], **LONG},
        "thrift": {"metric": "flops", **SHORT},
        "speed": {"metric": "latency", **SHORT},
    }
    limits = {"tiny_aime.latency": {"max": 1000.0}, "throughput": {"min": 0.0}}
    config = small_config()
    evaluation = {**config["evaluation"], "batch_size": 4}
    evaluation["tasks"] = {
        name: {**task, **({"scoring": "stock"} if name == "tiny_aime" else {})}
        for name, task in evaluation["tasks"].items()
    }
    workflow = run(tmp_path, objectives, selection={"limits": limits}, evaluation=evaluation)
    table = pd.read_parquet(workflow.results / "tables/observations.parquet")
    assert raw_metrics(table) == ["accuracy", "tokens", "exact_match,none", "flops", "latency", "throughput"]
    np.testing.assert_allclose(table["exact_match,none"], table["tiny_aime.exact_match,none"])
    np.testing.assert_allclose(table["tiny_aime.exact_match,none"], table["tiny_aime.accuracy"])
    ends = table[table["origin"].str.startswith("end point")]
    np.testing.assert_allclose(ends[objective_names(table)], [[1, 0, 0], [0, 1, 1]], atol=1e-9)
    # The longer the answers, the more operations and the more time: the demo's models have one shape.
    assert np.corrcoef(table["flops"], table["tokens"])[0, 1] > 0.99
    scores = [json.loads(text) for text in workflow.scores().values()]
    assert len({each["device"] for each in scores}) == 1
    assert all(each["energy"] is None and each["throughput"] > 0 for each in scores)


def test_a_metric_that_does_not_exist_stops_before_any_job(tmp_path: Path) -> None:
    objectives = {
        "match": {"metric": "exact_mach", "benchmarks": ["tiny_aime"], **LONG},
        "speed": {"metric": "tokens", **SHORT},
    }
    config = small_config(objectives=objectives)
    done = Workflow(tmp_path, config).run("-n")
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "objectives.match.metric: 'exact_mach' is no metric of benchmark tiny_aime" in text
    assert "is it 'exact_match'?" in text
    assert not (tmp_path / "results").exists()
