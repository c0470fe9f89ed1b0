import csv
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bambo.errors import BadInput
from bambo.evaluation import check_tasks
from bambo.evaluation.boxed import BoxedTask
from bambo.evaluation.tasks import (
    OPTION_REQUEST,
    REQUEST,
    _clean,
    _gpqa_options,
    _stock,
    _task_file,
    lm_eval_tasks,
    task_hash,
)
from bambo.files import file_hash
from hypothesis import given
from hypothesis import strategies as st
from pico_chat import aime_task, gpqa_task
from scipy.stats import chisquare

DEMO = {
    "tiny_gpqa": {"task": "gpqa_diamond_cot_zeroshot", "data": "resources/benchmarks/tiny_gpqa.csv"},
    "tiny_aime": {"task": "aime25", "data": "resources/benchmarks/tiny_aime.jsonl"},
}


def _config(settings: dict[str, Any], repeats: int = 1) -> dict[str, Any]:
    return lm_eval_tasks("b", settings, repeats, {"until": [], "max_gen_toks": 9})["b"]


def test_the_shipped_benchmarks_pass() -> None:
    check_tasks(DEMO)


def test_checking_imports_neither_the_harness_nor_torch() -> None:
    heavy = {"torch", "transformers", "datasets", "pandas", "lm_eval.api", "pyarrow"}
    code = (
        f"import sys, bambo.evaluation as e; e.check_tasks({DEMO}); print(sorted({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "aime52"}, r"evaluation\.tasks\.b\.task: lm-eval has no aime52\.yaml \(nearest: aime25"),
        ({"task": "gpqa_diamond_zeroshot"}, "scored by multiple_choice"),
        ({"task": "_mmlu"}, "group of tasks"),
        ({"task": "ifeval"}, r"b\.scoring: ifeval has no answer that a box could hold, expected stock"),
        ({"task": "gsm8k-cot-self-consistency"}, "draws 64 answers and scores them together"),
        ({"task": "gpqa_diamand"}, "nearest: gpqa_diamond,"),
        ({"task": "own/none.yaml"}, r"task: no file own/none\.yaml"),
        ({"task": "aime25", "prompt": "{{problem"}, r"b\.prompt: .* no template"),
        ({"task": "aime25", "data": "none.csv"}, r"b\.data: no file none\.csv"),
        (
            {"task": "aime25", "data": "aime.txt"},
            r"ends in '\.txt', expected one of csv, json, jsonl, parquet",
        ),
    ],
)
def test_bad_tasks(settings: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_tasks({"b": settings})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "not valid json"),
        ("x.jsonl", '{"problem": "1", "answer": "1"}\n{', "not valid jsonl"),
        ("x.jsonl", "", "holds no rows"),
        ("x.json", "[1, 2]", "holds no rows"),
        ("x.csv", "problem,answer\n1,2,3\n", "more cells than the header"),
        ("x.csv", "problem,solution\n1,2\n", "x.csv has no column 'answer', found 'problem', 'solution'"),
        ("x.csv", "problem,answer\n1,2\n3,\n", "no value in column 'answer' of row 2"),
        ("x.parquet", "no parquet", "not valid parquet"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=message) as error:
        check_tasks({"b": {"task": "aime25", "data": str(tmp_path / name)}})
    assert str(error.value).startswith("evaluation.tasks.b.data: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "column",
    [
        "Record ID",
        "Question",
        "Correct Answer",
        "Incorrect Answer 1",
        "Incorrect Answer 2",
        "Incorrect Answer 3",
    ],
)
def test_a_missing_column_of_gpqa_is_named(tmp_path: Path, column: str) -> None:
    settings = gpqa_task(tmp_path)
    path = Path(settings["data"])
    path.write_text(path.read_text().replace(column, "other", 1))
    with pytest.raises(BadInput, match=rf"gpqa\.csv has no column '{column}'"):
        check_tasks({"b": settings})


def test_a_misspelt_column_in_the_prompt_is_named(tmp_path: Path) -> None:
    for settings in [
        gpqa_task(tmp_path, prompt="{{question}} {{choice1}}"),
        aime_task(tmp_path, prompt="{{question}}"),
    ]:
        with pytest.raises(BadInput, match="has no column 'question'"):
            check_tasks({"b": settings})


def test_a_user_may_bring_a_task_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        'doc_to_text: "Q: {{q}}"\ndoc_to_target: a\ngeneration_kwargs: {until: []}\n'
    )
    (tmp_path / "mine.yaml").write_text("include: base.yaml\ntask: mine\ndataset_path: none\n")
    (tmp_path / "data.json").write_text(json.dumps([{"q": "1+1", "a": 2}]))
    settings = {"task": str(tmp_path / "mine.yaml"), "data": str(tmp_path / "data.json")}
    check_tasks({"b": settings})
    assert _config(settings)["doc_to_text"] == "Q: {{q}}" + REQUEST
    (tmp_path / "mine.yaml").write_text("task: mine\ndoc_to_target: a\n")
    with pytest.raises(BadInput, match=r"mine\.yaml has no doc_to_text"):
        check_tasks({"b": settings})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [", "mine.yaml cannot be loaded"),
        ("- 1", "Expected YAML dict"),
        ("include: gone.yaml", r"No such file .*gone\.yaml"),
    ],
)
def test_a_broken_task_file_is_reported(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(BadInput, match=message) as error:
        check_tasks({"b": {"task": str(tmp_path / "mine.yaml")}})
    assert "\n" not in str(error.value)


def test_overrides_of_a_stock_task(tmp_path: Path) -> None:
    stock, config = _stock("b", "aime25", resolve=True), _config(aime_task(tmp_path, prompt=None))
    assert config["doc_to_text"] == "Question: {{problem}}" + REQUEST
    assert config["doc_to_target"] == "answer"
    assert config["generation_kwargs"] == {"until": [], "max_gen_toks": 9}
    assert (config["test_split"], config["training_split"], config["fewshot_split"]) == ("test", None, None)
    assert config["custom_dataset"]()["test"][3]["answer"] == "3"
    assert config["process_results"] is stock["process_results"]
    assert config["class"] is BoxedTask
    assert stock.keys() <= config.keys()


def test_stock_scoring_keeps_prompt_filters_and_metric() -> None:
    stock = _stock("b", "gpqa_diamond_cot_zeroshot", resolve=True)
    config = _config({"task": "gpqa_diamond_cot_zeroshot", "scoring": "stock"})
    for key in ("doc_to_text", "filter_list", "metric_list", "dataset_path", "validation_split"):
        assert config[key] == stock[key]


def test_our_gpqa_asks_for_the_letter_alone() -> None:
    ours, stock = (_config({"task": task}) for task in ("gpqa_diamond", "gpqa_diamond_cot_zeroshot"))
    assert ours["doc_to_text"] == stock["doc_to_text"]
    assert ours["doc_to_text"].endswith("(D) {{choice4}}" + OPTION_REQUEST)
    assert task_hash("b", "gpqa_diamond") == task_hash("b", "gpqa_diamond_cot_zeroshot")
    as_it_is = _config({"task": "gpqa_diamond", "scoring": "stock"})
    assert as_it_is["doc_to_text"].endswith("Let's think step by step: ")
    assert "class" not in as_it_is


@pytest.mark.parametrize(
    ("task", "file"),
    [
        ("gsm8k", "gsm8k/gsm8k.yaml"),  # not the one of this name in another folder, which is of another task
        ("gsm8k_cot", "gsm8k/gsm8k-cot.yaml"),
        ("gsm8k-cot", "gsm8k/gsm8k-cot.yaml"),
        ("gpqa_diamond", "gpqa/cot_zeroshot/gpqa_diamond_cot_zeroshot.yaml"),
    ],
)
def test_tasks_go_by_the_name_in_the_file(task: str, file: str) -> None:
    assert str(_task_file("b", task)).endswith(f"/tasks/{file}")


def test_each_repeat_is_a_task_of_its_own(tmp_path: Path) -> None:
    configs = lm_eval_tasks("b", aime_task(tmp_path), 3, {"until": []})
    assert list(configs) == ["b (repeat 0)", "b (repeat 1)", "b (repeat 2)"]
    assert [config["task"] for config in configs.values()] == list(configs)


def test_a_benchmark_that_changed_since_the_recipe_is_refused(tmp_path: Path) -> None:
    settings = aime_task(tmp_path)
    settings["data_hash"] = file_hash(Path(settings["data"]))
    _config(settings)
    with open(settings["data"], "a") as file:
        file.write("\n")
    with pytest.raises(BadInput, match=r"aime\.jsonl has changed"):
        _config(settings)


def _task_files(folder: Path) -> list[Path]:
    """A task file of one's own, what it includes, and the functions that these name."""
    texts = {
        "mine.yaml": "include: [base.yaml, 'own words.yaml']\ntask: mine\nprocess_docs: !function 'utils.shuffle'\n",
        "base.yaml": "include: ground.yaml\ndoc_to_text: !function parts.text.of\n",
        "own words.yaml": "doc_to_target: !function\n  installed_elsewhere.target\n",
        "ground.yaml": "include:\n  - last.yaml\nmetric_list: [{metric: !function score.exact}]\n",
        "last.yaml": "# !function commented.out\ndataset_path: none\n",
        "utils.py": "",
        "parts/text.py": "",
        "score.py": "",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def test_the_hash_of_a_task_is_that_of_all_its_files(tmp_path: Path) -> None:
    files = _task_files(tmp_path)
    (tmp_path / "other.py").touch()
    (tmp_path / "commented.py").touch()
    seen = {task_hash("b", str(files[0]))}
    for name in ("other.py", "commented.py"):
        (tmp_path / name).write_text("changed")
    assert {task_hash("b", str(files[0]))} == seen
    for path in files:
        with open(path, "a") as file:
            file.write("# changed\n")
        seen.add(task_hash("b", str(files[0])))
    assert len(seen) == len(files) + 1
    (tmp_path / "moved").mkdir()
    _task_files(tmp_path / "moved")
    assert task_hash("b", str(tmp_path / "moved" / "mine.yaml")) in seen


def test_a_task_file_that_is_gone_or_broken_has_a_message_or_a_hash(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("task: [")
    assert len(task_hash("b", str(own))) == 64  # that it is broken, check_tasks says
    own.write_text("include: gone.yaml")
    with pytest.raises(
        BadInput, match=r"evaluation\.tasks\.b\.task: cannot read .*gone\.yaml \(No such file"
    ):
        task_hash("b", str(own))
    with pytest.raises(BadInput, match=r"evaluation\.tasks\.b\.task: lm-eval has no aime26\.yaml"):
        task_hash("b", "aime26")


@pytest.mark.parametrize("task", ["doda_translation_all", "gpqa_diamond_cot_zeroshot", "noridiom_nno_p3"])
def test_stock_tasks_have_hashes(task: str) -> None:
    # The first includes a list of files, the last names functions of an installed package.
    assert len(task_hash("b", task)) == 64


def test_a_task_file_that_changed_since_the_recipe_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("task: mine\ndoc_to_text: problem\ndoc_to_target: answer\n")
    settings = aime_task(tmp_path, task=str(own))
    settings["task_hash"] = task_hash("b", str(own))
    _config(settings)
    with open(own, "a") as file:
        file.write("num_fewshot: 2\n")
    with pytest.raises(BadInput, match=r"mine\.yaml is another than when the run began"):
        _config(settings)


@given(st.text(min_size=1), st.integers())
def test_gpqa_options_hang_on_the_record_alone(record: str, state: int) -> None:
    doc = {"Record ID": record, "Correct Answer": "r"} | {f"Incorrect Answer {i}": f"w{i}" for i in (1, 2, 3)}
    random.seed(state)
    options = _gpqa_options(doc)
    random.seed(state + 1)
    assert _gpqa_options(doc) == options
    assert sorted(options["choices"]) == ["r", "w1", "w2", "w3"]
    assert options["choices"]["ABCD".index(options["answer"][1])] == "r"
    assert [options[f"choice{i}"] for i in (1, 2, 3, 4)] == options["choices"]


def test_gpqa_orders_are_uniform() -> None:
    options = {"Correct Answer": "r"} | {f"Incorrect Answer {i}": f"w{i}" for i in (1, 2, 3)}
    orders = Counter(tuple(_gpqa_options(options | {"Record ID": f"rec{n}"})["choices"]) for n in range(4800))
    assert len(orders) == 24
    assert chisquare(list(orders.values())).pvalue > 0.01


def test_gpqa_questions_are_those_of_the_stock_task(tmp_path: Path) -> None:
    from datasets import Dataset

    path = Path(gpqa_task(tmp_path)["data"])
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["Correct Answer"] = "  spaced  out [title] "
    stock = _stock("b", "gpqa_diamond_cot_zeroshot", resolve=True)["process_docs"](Dataset.from_list(rows))
    ours = _config({"task": "gpqa_diamond_cot_zeroshot"})["process_docs"](Dataset.from_list(rows))
    assert stock.features == ours.features
    for theirs, own in zip(stock, ours, strict=True):
        assert sorted(theirs["choices"]) == sorted(own["choices"])
        assert own["choices"]["ABCD".index(own["answer"][1])] == _clean(own["Correct Answer"])
        assert theirs["Question"] == own["Question"]
