"""A candidate is asked a share of the questions first; the second stage generates what is missing, and no more."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bambo.evaluation import evaluate
from bambo.evaluation.simulated import simulate
from bambo.recipe import first_stage, make_recipe
from pico_chat import SAMPLING, ScriptedEngine, aime_task, chat_recipe, gpqa_task


def staged(tasks: dict[str, Any], share: float = 0.4, **settings: Any) -> dict[str, Any]:
    return chat_recipe(tasks, first_share=share, **settings)


def say(prompt: str, seed: int) -> str:
    return f"\\boxed{{{prompt[6]}}} {seed % 97}"


def score(recipe: dict[str, Any], folder: Path, engine: Any) -> dict[str, Any]:
    return evaluate(recipe, engine, folder / recipe["id"])


def asked(engine: ScriptedEngine) -> int:
    return sum(map(len, engine.chunks))


def samples(recipe: dict[str, Any], folder: Path) -> pd.DataFrame:
    rows = pd.read_parquet(folder / recipe["id"] / "samples.parquet")
    return rows.set_index(["benchmark", "question", "repeat"]).sort_index()


@pytest.mark.parametrize("sampling", [{"do_sample": False}, SAMPLING])
def test_the_second_stage_generates_what_is_missing(tmp_path: Path, sampling: dict[str, Any]) -> None:
    recipe = staged({"gpqa": gpqa_task(tmp_path), "aime": aime_task(tmp_path)}, sampling=sampling)
    first = first_stage(recipe)
    assert first["id"] != recipe["id"]
    early = score(first, tmp_path / "two", (one := ScriptedEngine(say)))
    whole = score(recipe, tmp_path / "two", (two := ScriptedEngine(say)))
    alone = score(recipe, tmp_path / "one", (three := ScriptedEngine(say)))
    counts = {name: scores["questions"] for name, scores in early["benchmarks"].items()}
    assert counts == {"gpqa": 3, "aime": 2}  # of 6 and 5, rounded up
    assert (asked(one), asked(two)) == (5, 6)
    assert sorted(one.chunks + two.chunks) == sorted(three.chunks)
    assert whole["benchmarks"] == alone["benchmarks"]
    pd.testing.assert_frame_equal(samples(recipe, tmp_path / "two"), samples(recipe, tmp_path / "one"))
    part = samples(first, tmp_path / "two")
    pd.testing.assert_frame_equal(part, samples(recipe, tmp_path / "one").loc[part.index])


def test_without_a_first_stage_the_whole_is_asked(tmp_path: Path) -> None:
    plain = chat_recipe({"aime": aime_task(tmp_path)})
    recipe = staged({"aime": aime_task(tmp_path)})
    assert recipe["id"] != plain["id"]
    scores = [score(each, tmp_path, ScriptedEngine(say))["benchmarks"] for each in (plain, recipe)]
    assert scores[0]["aime"]["tokens"] == scores[1]["aime"]["tokens"]
    assert not list(tmp_path.glob("*/answers.jsonl"))


def test_examples_are_the_same_in_both_stages(tmp_path: Path) -> None:
    task = tmp_path / "own.yaml"
    task.write_text(
        "task: own\ndataset_path: json\noutput_type: generate_until\nnum_fewshot: 2\ntest_split: test\n"
        "doc_to_text: '{{problem}}'\ndoc_to_target: '{{answer}}'\ngeneration_kwargs: {until: []}\n"
        "metric_list: [{metric: exact_match}]\n"
    )
    own = aime_task(tmp_path) | {"task": str(task), "max_tokens": 30}
    recipe = staged({"own": own})
    engines = [ScriptedEngine(say) for _ in range(2)]
    score(first_stage(recipe), tmp_path, engines[0])
    score(recipe, tmp_path, engines[1])
    assert asked(engines[1]) == 3


def test_a_share_of_each_value_of_a_column_comes_first(tmp_path: Path) -> None:
    recipe = staged({"gpqa": gpqa_task(tmp_path) | {"stratify": "Correct Answer", "limit": 4}}, 0.5)
    score(first_stage(recipe), tmp_path, ScriptedEngine(say))
    assert len(samples(first_stage(recipe), tmp_path)) == 2


def test_simulated_answers_are_those_of_the_whole(tmp_path: Path) -> None:
    evaluation = staged({"aime": aime_task(tmp_path)}, engine="simulated", limit=20)["evaluation"]
    sources = {name: {"path": "-", "fingerprint": name, "sample": name} for name in ("one", "two")}
    recipe = make_recipe({"head": [0.3, 0.7]}, sources, "one", evaluation)
    first = first_stage(recipe)
    for each in (recipe, first):
        (tmp_path / each["id"]).mkdir()
        simulate(each, tmp_path / each["id"])
    part = samples(first, tmp_path)
    assert len(part) == 8
    pd.testing.assert_frame_equal(part, samples(recipe, tmp_path).loc[part.index])
