import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bambo.errors import BadInput
from bambo.evaluation import check_tasks, evaluate, job, load_engine
from bambo.evaluation.engine import EvaluationFailed, Machine
from bambo.evaluation.flops import read_architecture
from bambo.evaluation.tasks import _gpqa_options
from bambo.files import file_hash, read_json, write_json
from bambo.records import read_record
from pico_chat import SAMPLING, ScriptedEngine, aime_task, chat_recipe, gpqa_task

PAIR, BENCHMARKS = Path("resources/models"), Path("resources/benchmarks")


def _scripted(recipe: dict, folder: Path, answer: Any) -> tuple[dict, ScriptedEngine]:
    """Scores with an engine that answers `answer(prompt, seed)`, and the engine."""
    engine = ScriptedEngine(answer, chunk_size=4)
    return evaluate(recipe, engine, folder), engine


def _box(prompt: str, seed: int) -> str:
    """What the shortest prompts ask for: the first character, padded to 9 tokens of output and up."""
    content = prompt.removeprefix("<user>").removesuffix("<assistant>")
    return f"\\boxed{{{content[0]}}}"


def test_scores_and_samples_of_two_benchmarks(tmp_path: Path) -> None:
    def answer(prompt: str, seed: int) -> str:
        if "sum" not in prompt:
            return _box(prompt, seed) if prompt[6] != "2" else "never ends " * 9
        number, *choices = prompt.removeprefix("<user>sum ").removesuffix("<assistant>").split("|")
        return f"<think></think>\\boxed{{{'ABCD'[choices.index(number)]}}}"

    recipe = chat_recipe({"gpqa": gpqa_task(tmp_path), "aime": aime_task(tmp_path)})
    scores, _ = _scripted(recipe, tmp_path / "out", answer)
    assert read_record(tmp_path / "out" / "scores.json", "scores") == scores
    assert (scores["id"], scores["status"]) == (recipe["id"], "ok")
    assert (scores["engine"], scores["device"], scores["gpus"]) == ("hf", "scripted", 0)
    assert scores["sampling"] == {"do_sample": False}
    assert scores["max_tokens"] == {"gpqa": 20, "aime": 20}
    assert scores["machine"] == Machine().record()
    assert scores["samples"] == file_hash(tmp_path / "out" / "samples.parquet")
    gpqa = scores["benchmarks"]["gpqa"]
    expected = {
        "accuracy": 1.0,
        "accuracy_stderr": 0.0,
        "accuracy_repeat_variance": None,
        "tokens": 12.0,
        "tokens_stderr": 0.0,
        "tokens_repeat_variance": None,
        "latency": 0.25,
        "tokens_per_correct": 12.0,
        "flops": None,  # of a model that is nowhere
        "truncated": 0.0,
        "questions": 6,
        "repeats": 1,
    }
    assert {key: gpqa[key] for key in expected} == expected
    assert gpqa["exact_match,strict-match"] == 0.0
    assert scores["throughput"] == pytest.approx((6 * 12 + 60) / scores["generation_seconds"])
    assert scores["energy"] is None
    aime = scores["benchmarks"]["aime"]
    assert aime["accuracy"] == pytest.approx(0.8)
    assert aime["tokens"] == pytest.approx((4 * 10 + 20) / 5)
    assert aime["truncated"] == pytest.approx(0.2)
    assert scores["generation_seconds"] < scores["seconds"]
    assert scores["generation_cpu_seconds"] <= scores["cpu_seconds"]
    assert set(scores["versions"]) == {"bambo", "lm_eval", "torch", "transformers"}

    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    assert list(samples["benchmark"]) == ["gpqa"] * 6 + ["aime"] * 5
    assert list(samples["record"])[5:7] == ["rec5", "a0"]
    row = samples.iloc[8].to_dict()
    assert np.isnan([row.pop(f"exact_match,{name}") for name in ("strict-match", "flexible-extract")]).all()
    assert row.pop("text").startswith("never ends")
    assert row == {
        "benchmark": "aime",
        "question": 2,
        "record": "a2",
        "repeat": 0,
        "correct": 0.0,
        "target": "2",
        "output_tokens": 20,
        "prompt_tokens": 5,
        "finish_reason": "length",
        "seconds": 0.25,
        "exact_match,none": 0.0,  # the task's own score
    }
    assert samples["text"][0].startswith("<think></think>\\boxed{")
    assert samples["text"][0].endswith("}")

    harness = read_json(tmp_path / "out" / "lm_eval" / "results.json")
    assert harness["results"]["aime"]["boxed_match,boxed"] == pytest.approx(aime["accuracy"])
    assert harness["results"]["aime"]["boxed_match_stderr,boxed"] == pytest.approx(aime["accuracy_stderr"])
    assert harness["configs"]["gpqa"]["generation_kwargs"] == {
        "until": [],
        "max_gen_toks": 20,
        "do_sample": False,
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "lm_eval",
        "samples.parquet",
        "scores.json",
    ]


def test_repeats_are_drawn_anew_and_a_task_may_have_its_own(tmp_path: Path) -> None:
    def answer(prompt: str, seed: int) -> str:
        return _box(prompt, seed) if seed % 2 else "\\boxed{}"

    tasks = {"more": aime_task(tmp_path, repeats=4), "two": aime_task(tmp_path)}
    scores, _ = _scripted(chat_recipe(tasks, repeats=2, sampling=SAMPLING), tmp_path / "out", answer)
    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    for name, repeats in [("more", 4), ("two", 2)]:
        own = samples[samples["benchmark"] == name].pivot_table(
            index="question", columns="repeat", values="correct"
        )
        assert own.shape == (5, repeats)
        assert set(own.to_numpy().ravel()) == {0.0, 1.0}
        part = scores["benchmarks"][name]
        assert part["repeats"] == repeats
        assert part["accuracy"] == pytest.approx(own.to_numpy().mean())
        # Clustered by question; taking all answers for independent gives another number.
        residuals = own.to_numpy() - own.to_numpy().mean()
        clustered = np.sqrt((residuals.sum(axis=1) ** 2).sum() / residuals.size**2 * 5 / 4)
        assert part["accuracy_stderr"] == pytest.approx(clustered)
        assert clustered != pytest.approx(residuals.std(ddof=1) / np.sqrt(residuals.size), rel=0.05)
        assert part["accuracy_repeat_variance"] == pytest.approx((own.var(axis=1) / repeats).sum() / 25)


def test_the_first_questions_can_be_asked_alone(tmp_path: Path) -> None:
    tasks = {
        "two": aime_task(tmp_path, limit=2),
        "all": gpqa_task(tmp_path, limit=99),
        "default": aime_task(tmp_path),
    }
    scores, _ = _scripted(chat_recipe(tasks, limit=3), tmp_path / "out", _box)
    assert {name: part["questions"] for name, part in scores["benchmarks"].items()} == {
        "two": 2,
        "all": 6,
        "default": 3,
    }
    assert scores["benchmarks"]["two"]["accuracy"] == 1.0


def test_stock_scoring_is_the_tasks_own_first_metric(tmp_path: Path) -> None:
    records = [{"Record ID": f"rec{n}", "Correct Answer": f"{n}"} for n in range(6)]
    wrong = {f"Incorrect Answer {i}": f"{i}" for i in (1, 2, 3)}
    letters = [_gpqa_options(record | wrong)["answer"] for record in records]

    def answer(prompt: str, seed: int) -> str:
        number = int(prompt.removeprefix("<user>sum ")[0])
        return f"The answer is {letters[number]}." if number < 2 else f"Answer: {letters[number]}"

    recipe = chat_recipe({"gpqa": gpqa_task(tmp_path, scoring="stock", max_tokens=40)})
    scores, _ = _scripted(recipe, tmp_path / "out", answer)
    assert scores["benchmarks"]["gpqa"]["accuracy"] == pytest.approx(
        2 / 6
    )  # strict-match; flexible-extract has all
    harness = read_json(tmp_path / "out" / "lm_eval" / "results.json")["results"]["gpqa"]
    assert harness["exact_match,strict-match"] == pytest.approx(2 / 6)
    assert harness["exact_match,flexible-extract"] == 1.0


def test_stop_strings_of_a_stock_task_end_the_answer_and_not_the_thinking(tmp_path: Path) -> None:
    def answer(prompt: str, seed: int) -> str:
        return f"<think>Question: no</think>{prompt.removeprefix('<user>')[0]}Question: 77"

    task = aime_task(tmp_path, scoring="stock", max_tokens=60)  # it stops at "Question:"
    scores, _ = _scripted(chat_recipe({"aime": task}), tmp_path / "out", answer)
    assert scores["benchmarks"]["aime"]["accuracy"] == 1.0
    assert scores["benchmarks"]["aime"]["tokens"] > 25  # all that was made


def test_code_that_models_write_runs_only_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        "def run(doc, results):\n    return {'pass': float(eval(results[0]) == int(doc['answer']))}\n"
    )
    (tmp_path / "code.yaml").write_text(
        "task: code\nunsafe_code: true\ndoc_to_text: '{{problem}}'\ndoc_to_target: answer\n"
        "process_results: !function code.run\n"
        "metric_list: [{metric: pass, aggregation: mean, higher_is_better: true}]\n"
    )
    task = aime_task(tmp_path, task=str(tmp_path / "code.yaml"), scoring="stock")
    with pytest.raises(BadInput, match=r"evaluation\.tasks\.code\.task: .* set unsafe_code: true"):
        check_tasks({"code": task})
    with pytest.raises(BadInput, match="set unsafe_code: true"):
        _scripted(chat_recipe({"code": task}), tmp_path / "out", _box)
    recipe = chat_recipe({"code": task | {"unsafe_code": True}})
    scores, _ = _scripted(recipe, tmp_path / "out", lambda prompt, seed: f"{prompt[6]} + 0")
    assert scores["benchmarks"]["code"]["accuracy"] == 1.0


def test_a_task_that_shuffles_is_asked_and_scored_on_the_same_questions(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import random\n"
        "def shuffle(dataset):\n"
        "    return dataset.map(lambda doc: {'n': str(random.randrange(10))}, load_from_cache_file=False)\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "task: mine\nprocess_docs: !function mine.shuffle\ndoc_to_text: '{{n}}'\ndoc_to_target: n\n"
    )
    task = aime_task(tmp_path, task=str(tmp_path / "mine.yaml"), prompt="{{n}} is?")
    scores, engine = _scripted(chat_recipe({"mine": task}), tmp_path / "out", _box)
    assert scores["benchmarks"]["mine"]["accuracy"] == 1.0
    assert len({prompt for chunk in engine.chunks for prompt in chunk}) > 1


def test_examples_come_from_the_other_questions(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "task: mine\nnum_fewshot: 2\nfewshot_split: train\ndoc_to_text: '{{problem}}'\ndoc_to_target: answer\n"
    )
    task = aime_task(tmp_path, task=str(tmp_path / "mine.yaml"), prompt="{{id}}")
    _, engine = _scripted(chat_recipe({"mine": task}), tmp_path / "out", _box)
    for prompt in (prompt for chunk in engine.chunks for prompt in chunk):
        *examples, question = re.findall(r"<user>(a\d)", prompt)
        assert len(examples) == 2
        assert question not in examples


def test_energy_of_a_resumed_evaluation_counts_what_was_spent_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = chat_recipe({"aime": aime_task(tmp_path)})
    spent = iter(range(0, 1000, 30))  # joules: 30 between two readings

    def evaluated(folder: str, kill: bool, meter: Any) -> dict | None:
        monkeypatch.setattr(job, "open_meter", lambda uuids: meter)
        asked: list[str] = []

        def answer(prompt: str, seed: int) -> str:
            asked.append(prompt)
            if kill and len(asked) == 3:
                raise KeyboardInterrupt
            return "\\boxed{1}"

        try:
            return evaluate(recipe, ScriptedEngine(answer, chunk_size=2), tmp_path / folder)
        except KeyboardInterrupt:
            return None

    # Five questions in chunks of 2: three chunks.
    assert evaluated("whole", False, lambda: next(spent))["energy"] == 3 * 30 / 5
    assert evaluated("resumed", True, lambda: next(spent)) is None
    assert evaluated("resumed", False, lambda: next(spent))["energy"] == 3 * 30 / 5
    assert evaluated("partly", True, None) is None
    assert evaluated("partly", False, lambda: next(spent))["energy"] is None


def test_a_failed_evaluation_writes_no_score(tmp_path: Path) -> None:
    def answer(prompt: str, seed: int) -> str:
        raise EvaluationFailed("out of memory", "no byte left")

    with pytest.raises(EvaluationFailed):
        _scripted(chat_recipe({"aime": aime_task(tmp_path)}), tmp_path / "out", answer)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"evaluation\.engine: 'abacus', expected one of hf"):
        load_engine({"engine": "abacus"}, PAIR, Machine())


def _command(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "bambo.candidate", "evaluate", str(folder), "--device", "cpu"]
    return subprocess.run([*command, "--batch-size", "4"], capture_output=True, text=True)


def test_the_command_scores_as_the_function_does(tmp_path: Path) -> None:
    gpqa = {"task": "gpqa_diamond_cot_zeroshot", "data": str(BENCHMARKS / "tiny_gpqa.csv"), "max_tokens": 160}
    gpqa["prompt"] = "{{Question}} (A){{choice1}} (B){{choice2}} (C){{choice3}} (D){{choice4}}"
    aime = {
        "task": "aime25",
        "data": str(BENCHMARKS / "tiny_aime.jsonl"),
        "prompt": "{{problem}}",
        "max_tokens": 160,
    }
    recipe = chat_recipe({"gpqa": gpqa, "aime": aime}, limit=6)
    folder = tmp_path / recipe["id"]
    write_json(folder / "recipe.json", recipe)
    shutil.copytree(PAIR / "thinking", folder / "model")
    done = _command(folder)
    assert done.returncode == 0, done.stderr
    engine = load_engine(recipe["evaluation"], PAIR / "thinking", Machine(batch_size=4))
    here = evaluate(recipe, engine, tmp_path / "here")
    there = read_record(folder / "scores.json", "scores")
    measured = [f"latency{part}" for part in ("", "_stderr", "_repeat_variance")]
    for name, own in here["benchmarks"].items():
        theirs = there["benchmarks"][name]
        assert own.keys() == theirs.keys()
        # What is read of the folder, and what differs from one time to the next.
        others = [key for key in own if not key.startswith("flops") and key not in measured]
        assert [own[key] for key in others] == [theirs[key] for key in others]
        assert theirs["flops"] == pytest.approx(
            read_architecture(PAIR / "thinking").flops(own["prompt_tokens"], own["tokens"]), rel=0.05
        )
    assert here["benchmarks"]["aime"]["accuracy"] > 0.4
    assert there["cpu_seconds"] > there["generation_cpu_seconds"] > 0
    samples = [pd.read_parquet(side / "samples.parquet") for side in (folder, tmp_path / "here")]
    pd.testing.assert_frame_equal(*(frame.drop(columns="seconds") for frame in samples))


def test_a_mistake_ends_the_command_with_one_line(tmp_path: Path) -> None:
    recipe = chat_recipe({"aime": aime_task(tmp_path)})
    recipe["evaluation"]["seed"] = 5
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    done = _command(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'recipe.json'}: id ")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aime.jsonl", "recipe.json"]
