"""The smoke run: recipes that ask little, and a report that shows and doubts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pico
import pytest
from bambo.candidate.folder import SAMPLES
from bambo.config import load
from bambo.files import file_hash, write_json
from bambo.records import write_record
from bambo.report.smoke import HEAD, TAIL, smoke_text
from bambo.smoke import few, smoke_ids, write_smoke
from demo_config import ROOT, demo

TASKS = {"a": {"task": "t", "repeats": 4, "limit": 2}, "b": {"task": "u", "stratify": "kind"}}


def test_few_questions_once() -> None:
    evaluation = {"engine": "hf", "repeats": 3, "limit": 100, "tasks": TASKS}
    assert few(evaluation) == {
        "engine": "hf",
        "repeats": 1,
        "limit": 100,
        "tasks": {"a": {"task": "t", "limit": 2}, "b": {"task": "u", "limit": 4, "stratify": "kind"}},
    }
    assert few({**evaluation, "limit": 3})["tasks"]["b"]["limit"] == 3
    assert few({**evaluation, "limit": None})["tasks"]["b"]["limit"] == 4


def test_candidates_of_their_own(tmp_path: Path) -> None:
    evaluation = {"engine": "hf", "repeats": 1, "limit": None, "tasks": TASKS}
    pair = pico.make_pair(tmp_path)
    run = pico.run_of(pair, folder=tmp_path / "run", evaluation=evaluation, end_point_evaluation=evaluation)
    ids = write_smoke(run)
    assert list(ids) == [*run.sources, "balanced"]
    assert smoke_ids(run.folder) == set()  # nobody said so yet
    write_json(run.folder / "smoke/candidates.json", ids)
    assert smoke_ids(run.folder) == set(ids.values())
    whole = {run.source_recipe(name)["id"] for name in run.sources}
    assert not whole & set(ids.values())
    # A run that asks as little itself has these candidates anyway.
    first = ids[next(iter(run.sources))]
    write_json(run.folder / "endpoints/candidates.json", {"end_points": {"x": first}, "own_files": {}})
    assert smoke_ids(run.folder) == set(ids.values()) - {first}


Rows = Callable[[str, str], dict[str, Any]]  # of a model's name and a benchmark


def report(tmp_path: Path, row: Rows, **changes: Any) -> str:
    """The report on three models that answer every question of both benchmarks alike."""
    models = {name: str(ROOT / "resources/models" / name) for name in ("thinking", "instruct")}
    config = load(demo(run="r", sources={name: {"model": path} for name, path in models.items()}, **changes))
    run = Path("results/r")
    names = {"thinking": "0" * 12, "instruct": "1" * 12, "balanced": "2" * 12}
    write_json(run / "smoke/candidates.json", names)
    for name, path in models.items():
        write_json(run / "sources" / f"{name}.json", {"path": path})
    for name, id in names.items():
        folder = run / "candidates" / id
        folder.mkdir(parents=True)
        (folder / "recipe.json").write_text("{}")
        usual = {"record": "rec", "repeat": 0, "correct": 0.0, "target": "(A)", "output_tokens": 9}
        usual |= {"prompt_tokens": 5, "finish_reason": "eos", "seconds": 1.0}
        rows = [
            {"benchmark": benchmark, "question": question, **usual, **row(name, benchmark)}
            for benchmark in config.evaluation.tasks
            for question in range(4)
        ]
        pd.DataFrame(rows).to_parquet(folder / SAMPLES)
        parts = {"tokens": 9.0, "questions": 4, "repeats": 1}
        scores = {
            "id": id,
            "status": "ok",
            "benchmarks": dict.fromkeys(config.evaluation.tasks, parts),
            "seconds": 12.0,
            "generation_seconds": 8.0,
            "peak_memory_gb": 1.5,
            "gpus": 0,
            "samples": file_hash(folder / SAMPLES),
        }
        write_record(folder / "scores.json", "scores", scores)
    return smoke_text(config)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resources").symlink_to(ROOT / "resources")


def doubts(text: str) -> str:
    """The report's list of what to look at, its lines joined."""
    listed = text.partition("What to look at\n")[2].partition("\n\n")[0]
    return " ".join(line.strip() for line in listed.splitlines())


def good(name: str, benchmark: str) -> dict[str, Any]:
    return {"text": rf"{name} says \boxed{{A}}", "correct": 1.0}


def test_texts_boxes_and_figures_are_shown(tmp_path: Path) -> None:
    text = report(tmp_path, good)
    assert "| <|im_start|>assistant" in text
    assert "thinking: 12 s, 8 s of them generating; 9 tokens a second; peak memory 1.5 GB" in text
    assert "tiny_gpqa: 4 of 4 right, 0% truncated, 9 tokens an answer" in text
    assert (
        "question 2 (rec): right; box A, target (A); 9 tokens, ended\n      | thinking says \\boxed{A}\n"
        in text
    )
    assert "r: the whole run at most" in text
    assert "measured by the smoke run" in text
    # The demo's sources differ in this, and nothing else is wrong.
    assert doubts(text).startswith("- chat template: that of instruct; thinking has another one")
    assert doubts(text).count("- ") == 1


def test_long_texts_are_shortened_to_head_and_tail(tmp_path: Path) -> None:
    words = " ".join(f"word{place}" for place in range(2_000))
    text = report(tmp_path, lambda name, benchmark: {**good(name, benchmark), "text": words})
    assert f"[... {len(words) - HEAD - TAIL:,} characters ...]" in text
    assert "word0 word1" in text
    assert "word1999" in text
    assert "word1000" not in text
    assert max(map(len, text.partition("What to look at")[0].splitlines())) <= 110


def test_answers_that_were_all_cut(tmp_path: Path) -> None:
    def row(name: str, benchmark: str) -> dict[str, Any]:
        cut = {"text": "<think> and so on", "finish_reason": "length", "correct": 0.0}
        return cut if (name, benchmark) == ("thinking", "tiny_aime") else good(name, benchmark)

    text = report(tmp_path, row)
    assert "thinking, tiny_aime: all answers were cut; raise evaluation.max_tokens" in doubts(text)
    assert "tiny_aime: 0 of 4 right, 100% truncated" in text
    assert "no box, target (A); 9 tokens, cut" in text


def test_a_thought_that_is_never_closed(tmp_path: Path) -> None:
    said = doubts(report(tmp_path, good, files_from="thinking"))
    assert "balanced, tiny_aime: the chat template opens a thought and no answer closes it" in said


def test_a_thought_that_is_closed_is_no_doubt(tmp_path: Path) -> None:
    def row(name: str, benchmark: str) -> dict[str, Any]:
        return {**good(name, benchmark), "text": f"{name} thinks </think> \\boxed{{A}}"}

    assert "closes" not in doubts(report(tmp_path, row, files_from="thinking"))


def test_no_box_and_nothing_right(tmp_path: Path) -> None:
    said = doubts(report(tmp_path, lambda name, benchmark: {"text": f"{name} does not know"}))
    assert "thinking, tiny_gpqa: no answer has a box, and none is right" in said
    assert "- tiny_gpqa: no model has an answer right" in said


def test_a_stock_scoring_needs_no_box(tmp_path: Path) -> None:
    config = demo()["evaluation"]["tasks"]
    for task in config.values():
        task["scoring"] = "stock"
    said = doubts(report(tmp_path, lambda name, benchmark: {"text": name}, evaluation__tasks=config))
    assert "has a box" not in said
    assert "no model has an answer right" in said


def test_empty_and_equal_texts(tmp_path: Path) -> None:
    said = doubts(report(tmp_path, lambda name, benchmark: {"text": " ", "correct": 1.0}))
    assert "balanced, tiny_gpqa: all answers are empty" in said
    assert "tiny_gpqa: all models wrote the same; are the sources the ones that you mean?" in said


def test_a_failed_model_is_told_and_the_others_shown(tmp_path: Path) -> None:
    from bambo.candidate.folder import write_failure

    report(tmp_path, good)
    write_failure(Path("results/r/candidates") / ("1" * 12), "out of memory", "CUDA out of memory", 3)
    models = {name: {"model": f"resources/models/{name}"} for name in ("thinking", "instruct")}
    text = smoke_text(load(demo(run="r", sources=models)))
    assert "instruct: failed, out of memory (CUDA out of memory)" in text
    assert "- instruct: its evaluation failed: out of memory (CUDA out of memory)" in doubts(text)
    assert "thinking: 12 s" in text


def test_simulated_scores_are_called_made_up(tmp_path: Path) -> None:
    text = report(tmp_path, lambda name, benchmark: {"text": "simulated"}, evaluation__engine="simulated")
    assert "SIMULATED: no model was asked, and all that is shown is made up" in text
    assert doubts(text) == "- nothing"
