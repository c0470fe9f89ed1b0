"""Both data sets under their hub names, from folders that stand for them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bambo.errors import BadInput
from bambo.evaluation import evaluate, load_engine
from bambo.evaluation.data import data_hash, read_data
from bambo.evaluation.engine import Machine
from bambo.evaluation.hub import save
from bambo.evaluation.tasks import _gpqa_options
from bambo.files import read_json
from bambo.integrity import _benchmarks
from hub_data import aime_rows, gpqa_rows, make_aime, make_gpqa, make_hub
from pico_chat import ScriptedEngine, chat_recipe

MODEL = Path("resources/models/thinking").absolute()


def _tasks(tasks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A recipe's tasks, with their data downloaded."""
    for name, settings in tasks.items():
        record = save(name, settings, Path("benchmarks"))
        settings |= {"data": f"benchmarks/{name}", "data_hash": record["data_hash"]}
    return tasks


def test_what_is_saved_is_what_the_hub_has(offline: Path) -> None:
    make_hub(offline)
    record = save("gpqa", {"task": "gpqa_diamond"}, offline / "benchmarks")
    assert record == read_json(offline / "benchmarks/gpqa.json")
    assert record["dataset"] == "Idavidrein/gpqa"
    assert (record["name"], record["split"]) == ("gpqa_diamond", "train")
    assert (record["questions"], record["examples"]) == (12, 0)
    assert record["data_hash"] == data_hash(offline / "benchmarks/gpqa")
    assert read_data(offline / "benchmarks/gpqa", "b").questions == gpqa_rows()
    save("aime", {"task": "aime25"}, offline / "benchmarks")
    assert read_data(offline / "benchmarks/aime", "b").questions == aime_rows()


def test_what_a_run_began_with_stays(offline: Path) -> None:
    settings = {"task": "aime25"}
    make_aime(offline)
    record = save("aime", settings, offline / "benchmarks")
    (offline / "math-ai").rename(offline / "gone")
    assert save("aime", settings, offline / "benchmarks") == record
    (offline / "benchmarks/aime/questions.jsonl").write_text("{}\n")
    [problem] = _benchmarks(offline)
    assert (
        problem.text
        == f"{offline}/benchmarks/aime.json: not about the questions in {offline}/benchmarks/aime, which were changed"
    )
    assert problem.again == [offline / "benchmarks/aime.json"]
    with pytest.raises(BadInput):  # damaged, so to be downloaded anew
        save("aime", settings, offline / "benchmarks")
    (offline / "gone").rename(offline / "math-ai")
    assert save("aime", settings, offline / "benchmarks") == record
    assert not list(_benchmarks(offline))


def test_questions_of_another_task_do_not_stay(offline: Path) -> None:
    make_hub(offline)
    save("b", {"task": "aime25"}, offline / "benchmarks")
    assert save("b", {"task": "gpqa_diamond"}, offline / "benchmarks")["split"] == "train"


@pytest.mark.parametrize(
    ("rows", "make", "task", "message"),
    [
        (aime_rows(2) + aime_rows(1), make_aime, "aime25", r"aime25 has the id '0' in rows 1 and 3"),
        ([{**aime_rows(1)[0], "answer": ""}], make_aime, "aime25", r"column 'answer'"),
        (
            [*gpqa_rows(3), gpqa_rows(2)[1]],
            make_gpqa,
            "gpqa_diamond",
            r"gpqa has the id 'rec01' in rows 2 and 4",
        ),
    ],
)
def test_bad_rows(offline: Path, rows: list, make: Callable, task: str, message: str) -> None:
    make(offline, rows)
    with pytest.raises(BadInput, match=rf"^evaluation\.tasks\.b\.task: .*{message}") as error:
        save("b", {"task": task}, offline / "benchmarks")
    assert "\n" not in str(error.value)
    assert not (offline / "benchmarks").exists()


def _refusing(error: Exception) -> Callable:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise error

    return load_dataset


def test_errors_of_the_hub_say_what_to_do(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    gated = DatasetNotFoundError(
        "Dataset 'Idavidrein/gpqa' is a gated dataset on the Hub. You must be\nauthenticated"
    )
    for error, message in [
        (
            gated,
            r"gated; accept the conditions at https://huggingface\.co/datasets/Idavidrein/gpqa .*HF_TOKEN",
        ),
        (DatasetNotFoundError("doesn't exist"), r"the hub has no data set Idavidrein/gpqa, or hides it"),
        (
            ConnectionError("Couldn't reach\nit"),
            r"not to be had \(Couldn't reach\) and in no cache; .* HF_HOME",
        ),
        (ValueError("BuilderConfig 'x' not found."), r"cannot be read \(BuilderConfig 'x' not found\.\)"),
        (DatasetGenerationError("torn"), r"cannot be read \(torn\)"),
    ]:
        monkeypatch.setattr(datasets, "load_dataset", _refusing(error))
        with pytest.raises(BadInput, match=rf"^evaluation\.tasks\.b\.task: .*{message}.* `data`$") as raised:
            save("b", {"task": "gpqa_diamond"}, offline / "benchmarks")
        assert "\n" not in str(raised.value)


def test_without_network_and_cache_the_command_ends_with_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "bambo.evaluation.hub",
        "b",
        json.dumps({"task": "aime25"}),
        "benchmarks",
    ]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command += ["--log", "log"]
    done = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: evaluation.tasks.b.task: math-ai/aime25 is not to be had (")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "log").read_text() == done.stderr


def test_ours_and_the_stock_tasks_run_offline(offline: Path) -> None:
    make_hub(offline)
    tasks = _tasks(
        {
            "gpqa": {"task": "gpqa_diamond", "max_tokens": 20},
            "gpqa_stock": {"task": "gpqa_diamond_cot_zeroshot", "scoring": "stock", "max_tokens": 20},
            "aime": {"task": "aime25", "max_tokens": 20},
            "aime_stock": {"task": "aime25", "scoring": "stock", "max_tokens": 20},
        }
    )
    recipe = chat_recipe(tasks)
    engine = load_engine(recipe["evaluation"], MODEL, Machine(batch_size=12))
    scores = evaluate(recipe, engine, offline / "out")
    assert {name: part["questions"] for name, part in scores["benchmarks"].items()} == dict.fromkeys(
        tasks, 12
    )
    samples = pd.read_parquet(offline / "out" / "samples.parquet")
    filled = samples.drop(columns="text").groupby("benchmark").apply(lambda rows: set(rows.dropna(axis=1)))
    gpqa = {"exact_match,strict-match", "exact_match,flexible-extract"}
    for name, columns in (("gpqa", gpqa), ("gpqa_stock", gpqa), ("aime", {"exact_match,none"})):
        assert {column for column in filled[name] if "," in column} == columns


def _oracle(prompt: str, seed: int) -> str:
    """Right answers to both tasks, as they are asked for; to GPQA's stock prompt in words."""
    first, second = map(int, re.findall(r"\d+", prompt)[:2])
    if "Find" in prompt:
        return f"<think>so</think>\\boxed{{{first * second:03d}}}"
    letter = next(line for line in prompt.splitlines() if f") {first + second} kJ" in line)[1]
    return f"\\boxed{{{letter}}}" if "boxed" in prompt else f"The answer is ({letter})."


def test_right_answers_are_right_for_ours_and_for_the_stock_tasks(offline: Path) -> None:
    make_hub(offline)
    tasks = _tasks(
        {
            "gpqa": {"task": "gpqa_diamond", "max_tokens": 50, "limit": 6, "stratify": "High-level domain"},
            "stock": {"task": "gpqa_diamond", "scoring": "stock", "max_tokens": 50},
            "aime": {"task": "aime25", "max_tokens": 50},
        }
    )
    engine = ScriptedEngine(_oracle)
    scores = evaluate(chat_recipe(tasks), engine, offline / "out")
    assert {name: part["accuracy"] for name, part in scores["benchmarks"].items()} == dict.fromkeys(
        tasks, 1.0
    )
    samples = pd.read_parquet(offline / "out" / "samples.parquet").set_index("benchmark")
    assert list(samples["exact_match,strict-match"]["stock"]) == [1.0] * 12
    assert list(samples["exact_match,flexible-extract"]["gpqa"]) == [0.0] * 6
    assert list(samples["exact_match,none"]["aime"][:2]) == [0.0, 0.0]  # 000 and 006
    domains = {row["Record ID"]: row["High-level domain"] for row in gpqa_rows()}
    assert samples["record"]["gpqa"].map(domains).value_counts().to_dict() == {
        "Physics": 3,
        "Chemistry": 2,
        "Biology": 1,
    }
    for record, target in zip(samples["record"]["gpqa"], samples["target"]["gpqa"], strict=True):
        assert (
            target == _gpqa_options(next(row for row in gpqa_rows() if row["Record ID"] == record))["answer"]
        )


def test_metrics_of_the_whole_benchmark_do_not_disturb(offline: Path) -> None:
    make_aime(offline)
    (offline / "mine.yaml").write_text(
        "task: mine\ndataset_path: math-ai/aime25\ntest_split: test\ndoc_to_text: '{{problem}}'\n"
        "doc_to_target: answer\nmetric_list:\n"
        "  - {metric: bleu, aggregation: bleu, higher_is_better: true}\n"
        "  - {metric: exact_match, aggregation: mean, higher_is_better: true}\n"
    )
    tasks = _tasks({"mine": {"task": "mine.yaml", "max_tokens": 50}})
    scores = evaluate(chat_recipe(tasks), ScriptedEngine(_oracle), offline / "out")
    assert scores["benchmarks"]["mine"]["accuracy"] == 1.0
    samples = pd.read_parquet(offline / "out" / "samples.parquet")
    assert [column for column in samples if "," in column] == ["exact_match,none"]
    assert "bleu,none" in read_json(offline / "out/lm_eval/results.json")["results"]["mine"]
    tasks["mine"]["scoring"] = "stock"
    with pytest.raises(
        BadInput, match=r"mine\.scoring: the metric bleu,none is no number a question; use boxed"
    ):
        evaluate(chat_recipe(tasks), ScriptedEngine(_oracle), offline / "stock")


def test_examples_of_a_few_shot_task_are_saved(offline: Path) -> None:
    make_aime(offline)
    (offline / "math-ai/aime25/train.jsonl").write_text('{"problem": "Find 1.", "answer": "1", "id": "x"}\n')
    (offline / "mine.yaml").write_text(
        "task: mine\ndataset_path: math-ai/aime25\ntest_split: test\nfewshot_split: train\nnum_fewshot: 1\n"
        "doc_to_text: '{{problem}}'\ndoc_to_target: answer\n"
    )
    tasks = _tasks({"mine": {"task": "mine.yaml", "max_tokens": 9}})
    assert read_json(offline / "benchmarks/mine.json")["examples"] == 1
    engine = ScriptedEngine(lambda prompt, seed: "1")
    evaluate(chat_recipe(tasks), engine, offline / "out")
    assert all(prompt.count("Find 1.") == 1 for chunk in engine.chunks for prompt in chunk)


def test_a_few_shot_task_with_filters_of_its_own(offline: Path) -> None:
    repository = offline / "openai/gsm8k"
    repository.mkdir(parents=True)
    files = "- {split: train, path: train.jsonl}\n  - {split: test, path: test.jsonl}"
    (repository / "README.md").write_text(
        f"---\nconfigs:\n- config_name: main\n  data_files:\n  {files}\n---\n"
    )
    for split, questions in (("train", range(10, 18)), ("test", range(6))):
        rows = [{"question": f"What is {n} + {n}?", "answer": f"It is\n#### {2 * n}"} for n in questions]
        (repository / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = _tasks({"gsm": {"task": "gsm8k", "scoring": "stock", "max_tokens": 50}})
    assert read_json(offline / "benchmarks/gsm.json")["examples"] == 8

    def answer(prompt: str, seed: int) -> str:
        n = int(re.findall(r"What is (\d+)", prompt)[-1])
        return f"#### {2 * n}" if n < 4 else f"So {2 * n}."

    engine = ScriptedEngine(answer)
    scores = evaluate(chat_recipe(tasks), engine, offline / "out")["benchmarks"]["gsm"]
    assert scores["accuracy"] == pytest.approx(4 / 6)
    samples = pd.read_parquet(offline / "out" / "samples.parquet")
    assert list(samples["exact_match,strict-match"]) == [1, 1, 1, 1, 0, 0]
    assert list(samples["exact_match,flexible-extract"]) == [1] * 6
    assert all(prompt.count("####") == 5 for chunk in engine.chunks for prompt in chunk)


def _ifeval(offline: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    import nltk

    monkeypatch.setattr(nltk, "download", lambda *_, **__: False)  # as without a network
    rows = [
        {"key": n, "prompt": f"Say {n}.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
        for n in range(4)
    ]
    path = offline / "ifeval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"task": "ifeval", "scoring": "stock", "data": str(path), "max_tokens": 20}


def test_instructions_are_checked_as_ifeval_does(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _ifeval(offline, monkeypatch)
    monkeypatch.setattr("nltk.data.find", lambda name: name)
    engine = ScriptedEngine(lambda prompt, seed: "1, 2" if "3" in prompt else "1 2")
    scores = evaluate(chat_recipe({"if": settings}), engine, offline / "out")["benchmarks"]["if"]
    assert scores["accuracy"] == 0.75
    samples = pd.read_parquet(offline / "out" / "samples.parquet")
    columns = [column for column in samples if "," in column]
    assert columns == ["prompt_level_strict_acc,none", "prompt_level_loose_acc,none"]
    results = read_json(offline / "out/lm_eval/results.json")["results"]["if"]
    assert results["inst_level_loose_acc,none"] == 0.75


def test_word_lists_that_are_missing_are_named(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _ifeval(offline, monkeypatch)
    monkeypatch.setattr("nltk.data.find", _refusing(LookupError("no punkt_tab")))
    with pytest.raises(
        BadInput, match=r"nltk has no punkt_tab, .* run `python -c .*nltk\.download\('punkt_tab'\)"
    ):
        evaluate(chat_recipe({"if": settings}), ScriptedEngine(_oracle), offline / "out")
