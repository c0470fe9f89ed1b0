"""Eight ways in which a search of merged models goes wrong unseen: each test fails where we fall into one.

What they touch has closer tests beside its own module; here they stand together, so that none is forgotten.
"""

import json
from pathlib import Path

import fine_tunes
import numpy as np
import pico
import pytest
import torch
from bambo.checkpoint import open_checkpoint
from bambo.errors import BadInput
from bambo.evaluation.prompts import check_overlap
from bambo.files import read_json
from bambo.merging import merge, merged_tensors, open_sources
from bambo.methods import METHODS
from bambo.objectives import evaluate
from bambo.pareto import hypervolume, non_dominated
from bambo.partition import layer_differences
from bambo.report import searches, tables
from bambo.run import Run
from bambo.search import surrogate
from bambo.search.design import sobol
from bambo.search.presets import PRESETS
from bambo.space import expand, parts, variables
from fake_run import REFERENCE_POINT, SETTINGS, VARIABLES, add_candidate, fail, fake_run, frames
from safetensors.torch import load_file

LAYERS = 12  # two digits: a pattern for layers.1 that is not anchored takes layers.10 and 11, too


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = pico.make_pair(
        tmp_path_factory.mktemp("pair"),
        num_hidden_layers=LAYERS,
        dtype=torch.bfloat16,
        tie_word_embeddings=True,
    )
    for name, path in made.items():
        (path / "chat_template.jinja").write_text(name)
    return made


@pytest.fixture(scope="module")
def run(pair: dict[str, Path]) -> Run:
    return pico.run_of(pair)


def layers(pair: dict[str, Path]) -> list[dict]:
    differences = layer_differences([open_checkpoint(path) for path in pair.values()])
    return variables(parts(differences, 1, "layer", fold=False), list(pair), {"method": "linear"})


def test_1_each_variable_changes_its_own_tensors_and_every_tensor_has_one(
    pair: dict[str, Path], run: Run
) -> None:
    found = layers(pair)
    source = load_file(pair["instruct"] / "model.safetensors")
    seen = set()
    for place in range(len(found)):
        recipe = run.recipe(expand(np.eye(len(found))[place].tolist(), found, {"method": "linear"}))
        result = dict(merged_tensors(recipe, open_sources(recipe), threads=1))
        changed = {name for name, tensor in source.items() if not torch.equal(tensor, result[name])}
        assert changed
        assert not changed & seen
        seen |= changed
    assert seen == set(source)


@pytest.mark.parametrize(("x", "name"), [(0.0, "instruct"), (1.0, "thinking")])
def test_2_ends_are_the_sources_with_files_of_one_named_source(
    pair: dict[str, Path], run: Run, tmp_path: Path, x: float, name: str
) -> None:
    found = layers(pair)
    recipe = run.recipe(expand([x] * len(found), found, {"method": "linear"}))
    merge(recipe, tmp_path / "model", threads=1)
    source, result = (load_file(folder / "model.safetensors") for folder in (pair[name], tmp_path / "model"))
    assert source.keys() == result.keys()
    for key, tensor in source.items():
        assert tensor.view(torch.uint8).equal(result[key].view(torch.uint8)), key
    assert (tmp_path / "model" / "chat_template.jinja").read_text() == "instruct"


@pytest.mark.parametrize("method", [name for name, own in METHODS.items() if own.task_vectors])
def test_3_weights_and_densities_reach_the_merge(tmp_path: Path, method: str) -> None:
    paths = fine_tunes.write(tmp_path)

    def made(weights: list[float], **parameters: float) -> torch.Tensor:
        recipe = fine_tunes.recipe_for(paths, method, weights, **parameters)
        return torch.cat([t.flatten().float() for _, t in merged_tensors(recipe, open_sources(recipe))])

    assert not torch.equal(made([0.2, 0.8]), made([0.6, 0.4]))
    if "density" in METHODS[method].parameters:
        assert not torch.equal(made([0.5, 0.5], density=0.3), made([0.5, 0.5], density=0.7))


def test_4_a_failure_is_no_number(tmp_path: Path) -> None:
    run_dir = fake_run(tmp_path)
    lost = add_candidate(run_dir, np.full(8, 0.3))
    fail(run_dir, lost)
    scores = read_json(run_dir / "candidates" / lost / "scores.json")
    assert not [value for key, value in scores.items() if isinstance(value, float)]
    with pytest.raises(ValueError, match="has no scores"):
        evaluate([scores], read_json(run_dir / "endpoints" / "normalisation.json"))
    observations = frames().observations
    failed = observations[observations["status"] == "failed"]
    assert len(failed) == 1
    assert failed.select_dtypes("number").drop(columns="iteration").isna().all(axis=None)
    assert not set(failed["candidate"]) & set(frames().pareto["candidate"])


def test_5_the_front_is_not_chosen_and_praised_by_the_same_noise() -> None:
    """Of one noisy evaluation each, the observed front promises far more than it is; the posterior mean hardly."""
    X = sobol(1, 48, seed=0)
    true = np.column_stack([X[:, 0], 1 - X[:, 0] ** 2])
    generator = np.random.default_rng(0)
    optimism: dict[str, list[float]] = {"observed": [], "posterior": []}
    for _ in range(5):
        Y = true + 0.15 * generator.standard_normal(true.shape)
        mean, _, chosen = surrogate.posterior_front(
            X, Y, np.full_like(Y, 0.15**2), np.zeros_like(Y), PRESETS["bambo-robust"], REFERENCE_POINT
        )
        lucky = non_dominated(Y)
        for name, values, rows in (("observed", Y, lucky), ("posterior", mean, chosen)):
            claimed, real = (hypervolume(own[rows], REFERENCE_POINT) for own in (values, true))
            optimism[name].append(claimed - real)
    assert np.mean(optimism["observed"]) > 0.2
    assert abs(np.mean(optimism["posterior"])) < 0.05


def test_6_pareto_files_hold_fronts_and_hours_are_hours(tmp_path: Path) -> None:
    found = frames()
    names = tables.objective_names(found.observations)
    for (_, front), rows in found.pareto.groupby(["search", "front"]):
        columns = names if front == "observed" else [f"{name}_posterior_mean" for name in names]
        assert non_dominated(rows[columns].to_numpy(float)).all()
    assert len(found.pareto["candidate"].unique()) < len(found.observations)
    run = tables.read_run(fake_run(tmp_path), VARIABLES)
    clock = searches.reckon(run, SETTINGS, "blocks")
    seconds = sum(run.scores[id]["seconds"] for id in clock.candidates)
    assert clock.busy * 3600 == pytest.approx(seconds)


def test_7_a_model_that_was_thrown_away_can_be_made_again(run: Run, tmp_path: Path) -> None:
    """What was under way is recorded, too, and each decision replays: see test_replay.py."""
    recipe = json.loads(json.dumps(run.recipe(run.everywhere([0.3, 0.7]))))
    for name in ("first", "again"):
        merge(recipe, tmp_path / name, threads=1)
    files = [tmp_path / name / "model.safetensors" for name in ("first", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_8_a_prior_is_not_fitted_to_the_test() -> None:
    question = "A long question about the spin of three coupled electrons, with options."
    for prompt in (question, f"  {question.upper()} ", f"Please answer: {question} Think."):
        with pytest.raises(BadInput, match=r"prompt 2 .* is a question of evaluation\.tasks\.gpqa"):
            check_overlap(["Something else", prompt], [("gpqa", [question])], Path("prompts.txt"))
    check_overlap(["Something else"], [("gpqa", [question])], Path("prompts.txt"))
