"""Simulated evaluations: equal for equal recipes, smooth in the weights, and marked as what they are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from bambo.candidate.folder import is_scored, read_samples, read_scores
from bambo.errors import BadInput
from bambo.evaluation import job, simulated
from bambo.evaluation.simulated import simulate
from bambo.objectives import evaluate, normalisation
from bambo.recipe import make_recipe

GROUPS = ["embeddings", *(f"layers.{layer}" for layer in range(12)), "head"]
SOURCES = {name: {"path": name, "fingerprint": name, "sample": name} for name in ("thinking", "instruct")}
OBJECTIVES = {
    "reasoning": {"metric": "accuracy", "expert": "thinking", "base": "instruct"},
    "efficiency": {"metric": "tokens", "expert": "instruct", "base": "thinking"},
}


def recipe(weight: float | dict[str, float], **evaluation: Any) -> dict[str, Any]:
    own = weight if isinstance(weight, dict) else dict.fromkeys(GROUPS, weight)
    settings = {
        "engine": "simulated",
        "seed": 0,
        "repeats": 1,
        "sampling": {"do_sample": True},
        "limit": None,
        "tasks": {"gpqa": {"max_tokens": 1000}, "aime": {"max_tokens": 2000, "limit": 30, "repeats": 2}},
        **evaluation,
    }
    return make_recipe({group: [w, 1 - w] for group, w in own.items()}, SOURCES, "instruct", settings)


def scored(folder: Path, weight: float | dict[str, float], **evaluation: Any) -> dict[str, Any]:
    made = recipe(weight, **evaluation)
    path = folder / made["id"]
    path.mkdir(parents=True, exist_ok=True)
    return simulate(made, path)


def test_the_files_are_those_of_a_real_evaluation(tmp_path):
    scores = scored(tmp_path, 0.3)
    folder = tmp_path / scores["id"]
    assert is_scored(folder)
    assert read_scores(folder) == scores
    assert scores["engine"] == "simulated"
    assert scores["gpus"] == 0
    assert scores["generation_seconds"] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["samples.parquet", "scores.json"]
    samples = read_samples(folder)
    answers = samples.groupby("benchmark").size()
    assert answers.to_dict() == {"gpqa": 100, "aime": 60}
    for name, own in samples.groupby("benchmark"):
        found = scores["benchmarks"][name]
        assert found["accuracy"] == pytest.approx(own["correct"].mean())
        assert found["tokens"] == pytest.approx(own["output_tokens"].mean())
    assert scores["benchmarks"]["aime"]["questions"] == 30
    assert scores["benchmarks"]["aime"]["repeats"] == 2
    assert scores["benchmarks"]["aime"]["accuracy_repeat_variance"] > 0


def test_samples_have_the_columns_of_a_real_evaluation(tmp_path):
    path = tmp_path / scored(tmp_path, 0.3)["id"] / "samples.parquet"
    found = pyarrow.parquet.read_table(path)
    job._write_samples(path, found.to_pylist())
    assert pyarrow.parquet.read_table(path) == found


def test_equal_recipes_have_equal_scores_and_other_seeds_others(tmp_path):
    first, again = scored(tmp_path / "a", 0.5), scored(tmp_path / "b", 0.5)
    assert first["benchmarks"] == again["benchmarks"]
    assert first["samples"] == again["samples"]
    assert scored(tmp_path, 0.5, seed=1)["benchmarks"] != first["benchmarks"]


def test_the_end_points_are_far_apart(tmp_path):
    ends = {"thinking": scored(tmp_path, 1.0), "instruct": scored(tmp_path, 0.0)}
    scale = normalisation(OBJECTIVES, ends)
    assert scale["warnings"] == []
    for objective in scale["objectives"].values():
        for gap in objective["benchmarks"].values():
            assert gap["gap"] > 6 * gap["gap_stderr"]
    many = {end: scored(tmp_path, weight, limit=4000) for end, weight in [("low", 0.0), ("high", 1.0)]}
    means = [many[end]["benchmarks"]["gpqa"] for end in ("low", "high")]
    assert [row["accuracy"] for row in means] == pytest.approx([0.04, 0.98], abs=0.015)
    assert [row["tokens"] for row in means] == pytest.approx([29, 288], rel=0.03)


def test_other_metrics_can_be_objectives_too(tmp_path):
    ends = {"thinking": scored(tmp_path, 1.0), "instruct": scored(tmp_path, 0.0)}
    short = {"expert": "instruct", "base": "thinking"}
    metrics = ["latency", "throughput", "energy", "cost"]
    objectives = {f"o_{metric}": {"metric": metric, **short} for metric in metrics}
    scale = normalisation(objectives, ends, {"output_tokens": 1.0})
    assert scale["warnings"] == []
    values = evaluate([*ends.values(), scored(tmp_path, 0.6)], scale).Y
    np.testing.assert_allclose(values[:2], [[0] * 4, [1] * 4], atol=1e-9)
    assert ((values[2] > 0) & (values[2] < 1.2)).all()
    with pytest.raises(BadInput, match=r"flops of candidate .*, on simulated, is not known: config\.json"):
        normalisation({"thrift": {"metric": "flops", **short}}, ends)


def test_groups_matter_unequally_and_otherwise_for_accuracy_than_for_tokens():
    shares = {
        metric: np.array([simulated._importance(metric, group) for group in GROUPS])
        for metric in ("accuracy", "tokens")
    }
    assert all(own.max() > 10 * own.min() > 0 for own in shares.values())
    assert abs(np.corrcoef(*shares.values())[0, 1]) < 0.9
    half = recipe({group: float(place % 2) for place, group in enumerate(GROUPS)})["weights"]
    for metric, own in shares.items():
        assert simulated._share(half, metric) == pytest.approx(own[1::2].sum() / own.sum())


def test_candidates_answer_the_same_questions(tmp_path):
    weak, strong = scored(tmp_path, 0.4), scored(tmp_path, 0.45)
    answers = [
        read_samples(tmp_path / scores["id"]).set_index(["benchmark", "question", "repeat"])
        for scores in (weak, strong)
    ]
    length = [np.log(own["output_tokens"]) for own in answers]
    assert np.corrcoef(length[0].loc["gpqa"], length[1].loc["gpqa"])[0, 1] > 0.8
    assert (answers[0]["correct"] != answers[1]["correct"]).any()


def test_what_reaches_the_limit_is_cut_and_wrong(tmp_path):
    samples = read_samples(tmp_path / scored(tmp_path, 1.0, limit=20000)["id"])
    cut = samples["finish_reason"] == "length"
    longest = samples["benchmark"].map({"gpqa": 1000, "aime": 2000})
    assert 0.002 < cut.mean() < 0.01
    assert (samples["output_tokens"][cut] == longest[cut]).all()
    assert (samples["correct"][cut] == 0).all()
    assert (samples["output_tokens"][~cut] < longest[~cut]).all()


def test_a_job_imports_no_torch(tmp_path):
    made = recipe(0.5)
    folder = tmp_path / made["id"]
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(made))
    code = (
        "import sys; from bambo.candidate.__main__ import main; main();"
        "heavy = {'torch', 'pandas', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, "evaluate", str(folder)], check=True)
    assert is_scored(folder)


def test_sources_in_between_have_places_in_even_steps():
    def share(*weights: float) -> float:
        return simulated._share({group: [*weights] for group in GROUPS}, "tokens")

    assert [share(1, 0, 0), share(0, 1, 0), share(0, 0, 1)] == pytest.approx([1, 0.5, 0])
    assert share(0.5, 0.25, 0.25) == pytest.approx(0.625)
