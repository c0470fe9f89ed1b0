"""Metrics of the harness: what a task's file lists, and what of it comes to stand in scores.json."""

from pathlib import Path

import pytest
from bambo.evaluation import evaluate
from bambo.evaluation.metrics import harness_metrics
from bambo.files import read_json
from pico_chat import SAMPLING, ScriptedEngine, aime_task, chat_recipe

TASK = """\
task: mine
doc_to_text: problem
doc_to_target: answer
process_results: !function mine.score
filter_list:
  - {name: whole, filter: [{function: take_first}]}
metric_list:
  - {metric: right, aggregation: mean, higher_is_better: true}
  - {metric: words, aggregation: !function mine.total, higher_is_better: true}
"""
CODE = """\
def score(doc, results):
    return {"right": float(doc["answer"] in results[0]), "words": [len(results[0]), 1]}

def total(items):
    return sum(length for length, _ in items) / sum(count for _, count in items)
"""


@pytest.fixture
def task(tmp_path: Path) -> dict:
    (tmp_path / "mine.yaml").write_text(TASK)
    (tmp_path / "mine.py").write_text(CODE)
    return aime_task(tmp_path, task=str(tmp_path / "mine.yaml"), prompt="{{problem}}", scoring="stock")


def test_metrics_are_known_from_the_task_s_file(task: dict) -> None:
    assert harness_metrics("mine", task) == ["right,whole", "words,whole"]
    assert harness_metrics("aime", {"task": "aime25"}) == ["exact_match,none"]
    readings = ["exact_match,strict-match", "exact_match,flexible-extract"]
    assert harness_metrics("gpqa", {"task": "gpqa_diamond_cot_zeroshot"}) == readings
    assert "prompt_level_strict_acc,none" in harness_metrics("ifeval", {"task": "ifeval"})


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_metric_of_the_whole_corpus_is_the_mean_over_repeats(
    tmp_path: Path, task: dict, repeats: int
) -> None:
    drawn = {"repeats": repeats, "sampling": SAMPLING} if repeats > 1 else {}
    recipe = chat_recipe({"mine": task}, **drawn)
    engine = ScriptedEngine(lambda prompt, seed: prompt[6] + "x" * (seed % 5))
    found = evaluate(recipe, engine, tmp_path / "out")["benchmarks"]["mine"]
    results = read_json(tmp_path / "out/lm_eval/results.json")["results"]
    corpus = [each["words,whole"] for each in results.values()]
    assert len(corpus) == repeats
    assert found["words,whole"] == pytest.approx(sum(corpus) / repeats)
    assert found["words,whole_stderr"] is None  # the harness has none for a function of one's own
    assert (found["words,whole_repeat_variance"] is None) == (repeats == 1)
    # A number a question: ours to average.
    assert found["right,whole"] == found["accuracy"] == 1.0
    assert found["right,whole_stderr"] == 0.0
