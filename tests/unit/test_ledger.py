"""Decisions of a search: what they ask for, when they stop, and that equal files give equal decisions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bambo.candidate.folder import write_failure
from bambo.files import read_json
from bambo.objectives import normalisation
from bambo.records import write_record
from bambo.run import Run
from bambo.search.decision import FAILED, OBSERVED
from bambo.search.ledger import propose, read_seen
from bambo.search.presets import PRESETS
from bambo.search.proposals import iteration_key, place_of, proposal_path
from bambo.space import variables
from fake_run import BLOCKS, GROUPS, OBJECTIVES, REFERENCE_POINT, VARIABLES, measured_scores, write_scores

CHEAP = {"restarts": 2, "raw_samples": 16, "mc_samples": 16, "n_initial": 4, "batch_size": 2, "iterations": 4}
SETTINGS = {**PRESETS["bambo-robust"], **CHEAP}


def make_run(folder: Path) -> Run:
    source = {"path": "nowhere", "sample": "0"}
    return Run(
        folder=folder,
        sources={name: {**source, "fingerprint": name} for name in ("thinking", "instruct")},
        groups=GROUPS,
        files_from="instruct",
        evaluation={"repeats": 1, "tasks": {}},
        end_point_evaluation={"repeats": 4, "tasks": {}},
    )


def score(run: Run, ids: list[str]) -> None:
    """Made-up scores of the weights that the recipes hold."""
    for id in ids:
        recipe = read_json(run.folder / "candidates" / id / "recipe.json")
        x = np.array([recipe["weights"][groups[0]][0] for groups in BLOCKS])
        write_scores(run.folder / "candidates" / id, measured_scores(id, x))


def scale(run: Run) -> dict[str, Any]:
    ids = {name: run.add(run.source_recipe(name)) for name in run.sources}
    score(run, list(ids.values()))
    return normalisation(OBJECTIVES, {name: run.scores(id) for name, id in ids.items()})


def step(
    run: Run, iteration: int, settings: dict[str, Any], search: str = "blocks", variables: Any = None
) -> dict[str, Any]:
    """Decide, write the proposal and score its candidates."""
    key = iteration_key(iteration)
    proposal = propose(
        run,
        search,
        key,
        settings=settings,
        settings_hash="0",
        variables=variables or VARIABLES[search],
        normalisation=scale(run),
        reference=REFERENCE_POINT,
    )
    write_record(proposal_path(run.folder, search, key), "proposal", proposal)
    score(run, proposal["candidates"])
    return proposal


def test_a_search_from_its_start(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first, second, third = (step(run, iteration, SETTINGS) for iteration in range(3))
    assert first["origin"] == ["all-0", "all-1", "balanced", "sobol"]
    assert (first["observed"], first["surrogate"]) == ([], None)
    assert second["observed"] == first["candidates"]
    assert third["observed"] == first["candidates"] + second["candidates"]
    assert len(third["surrogate"]["reasoning"]["lengthscales"]) == 8
    asked = first["candidates"] + second["candidates"] + third["candidates"]
    assert len(set(asked)) == len(asked) == 8
    assert np.shape(third["variables"]) == (2, 8)


def test_equal_files_give_equal_decisions(tmp_path: Path) -> None:
    decisions = []
    for name in ("one", "two"):
        run = make_run(tmp_path / name)
        decisions.append([step(run, iteration, SETTINGS) for iteration in range(2)])
    assert decisions[0] == decisions[1]


def test_the_ends_of_a_search_are_the_end_points(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    instruct, thinking, balanced, _ = step(run, 0, SETTINGS)["candidates"]
    assert instruct == run.source_recipe("instruct")["id"]
    assert thinking == run.source_recipe("thinking")["id"]
    assert run.source_recipe("thinking")["evaluation"]["repeats"] == 4
    recipe = run.recipe(run.everywhere([0.5, 0.5]))
    assert recipe["id"] == balanced
    assert recipe["evaluation"]["repeats"] == 1


def test_the_last_batch_is_cut_where_evaluations_end(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    settings = {**SETTINGS, "evaluations": 5}
    step(run, 0, settings)
    assert len(step(run, 1, settings)["candidates"]) == 1
    last = step(run, 2, settings)
    assert (last["stop"], last["candidates"]) == ("budget", [])


def test_stops_where_the_hypervolume_no_longer_grows(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    settings = {**SETTINGS, "stop": {"growth": 1e6, "iterations": 1}}
    step(run, 0, settings)
    assert step(run, 1, settings)["stop"] is None  # one value is no growth yet
    assert step(run, 2, settings)["stop"] == "hypervolume"


def test_a_failed_evaluation_is_no_observation_and_is_not_asked_again(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first = step(run, 0, SETTINGS)
    lost = first["candidates"][3]
    write_failure(run.folder / "candidates" / lost, "out of memory", "no memory left", 3)
    second = step(run, 1, SETTINGS)
    assert lost not in second["observed"]
    assert second["failed"] == [lost]
    assert lost not in second["candidates"]
    seen = read_seen(run, "blocks", place_of("t001"), 8, SETTINGS, scale(run))
    assert len(seen.points) == 4
    assert len(seen.points_of(OBSERVED)) == len(seen.values.Y) == 3
    assert seen.of(FAILED) == [lost]


def test_a_grid_asks_for_its_weights(tmp_path: Path) -> None:
    proposal = step(
        make_run(tmp_path), 0, {**PRESETS["model-grid"], "weights": [0.2, 0.7], "n_initial": 2}, "single"
    )
    assert proposal["variables"] == [[0.2], [0.7]]
    assert proposal["origin"] == ["grid", "grid"]


def test_recipes_are_written_once(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    [id] = {run.add(run.recipe(run.everywhere([0.5, 0.5]))) for _ in range(2)}
    path = tmp_path / "candidates" / id / "recipe.json"
    before = path.stat().st_mtime_ns
    run.add(run.recipe(run.everywhere([0.5, 0.5])))
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("files_from", ["thinking", "instruct"])
def test_files_make_another_candidate(tmp_path: Path, files_from: str) -> None:
    run = make_run(tmp_path)
    own = run.source_recipe("thinking", files_from=files_from)
    assert (own["id"] == run.source_recipe("thinking")["id"]) == (files_from == "instruct")


# Methods, parameters, sources

TIES = {"method": "ties", "density": {"min": 0.2, "max": 0.6}, "lambda": 1.0}
BASE = {"path": "base", "fingerprint": "base", "sample": "0"}


def test_a_search_of_parameters_beside_the_weights(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path), base=BASE)
    settings = SETTINGS | TIES
    found = variables(VARIABLES["blocks"], list(run.sources), settings)
    proposals = [step(run, iteration, settings, variables=found) for iteration in range(2)]
    asked = [id for proposal in proposals for id in proposal["candidates"]]
    assert len(set(asked)) == 6
    for id, point in zip(asked, [x for each in proposals for x in each["variables"]], strict=True):
        recipe = read_json(tmp_path / "candidates" / id / "recipe.json")
        assert (recipe["method"], recipe["base"]["fingerprint"]) == ("ties", "base")
        assert [recipe["weights"][groups[0]][0] for groups in BLOCKS] == point[::2]
        density = [recipe["parameters"]["density"][groups[0]] for groups in BLOCKS]
        assert density == pytest.approx([0.2 + 0.4 * x for x in point[1::2]], abs=1e-6)
    assert not {*asked} & {run.source_recipe(name)["id"] for name in run.sources}


def test_a_search_of_three_sources(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run = replace(run, sources={**run.sources, "third": {"path": "x", "fingerprint": "third", "sample": "0"}})
    settings = SETTINGS | {"n_initial": 5}
    found = variables(VARIABLES["blocks"], list(run.sources), settings)
    first, second = (step(run, iteration, settings, variables=found) for iteration in range(2))
    assert first["origin"] == ["all-third", "all-thinking", "all-instruct", "balanced", "sobol"]
    assert first["candidates"][:3] == [
        run.source_recipe(name)["id"] for name in ("third", "thinking", "instruct")
    ]
    assert np.shape(second["variables"]) == (2, 16)
    for id in second["candidates"]:
        weights = read_json(tmp_path / "candidates" / id / "recipe.json")["weights"]
        assert all(sum(own) == pytest.approx(1, abs=1e-9) for own in weights.values())


def test_no_merge_is_asked_for_twice_under_two_names(tmp_path: Path) -> None:
    # With all weight on the first source, the second one's share of the rest is the same for any value.
    run = make_run(tmp_path)
    run = replace(run, sources={**run.sources, "third": {"path": "x", "fingerprint": "third", "sample": "0"}})
    found = variables(VARIABLES["single"], list(run.sources), SETTINGS)
    asked = [step(run, t, SETTINGS, "single", variables=found)["candidates"] for t in range(5)]
    ids = [id for each in asked for id in each]
    assert len(set(ids)) == len(ids)
