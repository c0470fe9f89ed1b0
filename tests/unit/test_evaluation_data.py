import json
from pathlib import Path
from typing import Any

import pytest
from bambo.errors import BadInput
from bambo.evaluation import check_tasks
from bambo.evaluation.data import Data, data_hash, read_data, write_data
from bambo.evaluation.tasks import lm_eval_tasks
from hub_data import aime_rows, gpqa_rows

ROWS = aime_rows(5)


def _write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _check(path: Path, task: str = "aime25", **settings: Any) -> None:
    check_tasks({"b": {"task": task, "data": str(path)} | settings})


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, rows in (("b", ROWS[3:]), ("a", ROWS[:3]), (".hidden", ROWS)):
        _write(tmp_path / "data" / f"{name}.jsonl", rows)
    assert read_data(tmp_path / "data", "b") == Data(ROWS, [])
    _check(tmp_path / "data")
    _write(tmp_path / "data" / "examples.jsonl", ROWS[:1])
    assert read_data(tmp_path / "data", "b") == Data(ROWS, ROWS[:1])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"data holds no file, expected csv, json, jsonl, parquet files of one format"),
        (["a.jsonl", "b.csv"], r"holds files of 2 formats \(\.csv, \.jsonl\)"),
        (["examples.jsonl"], r"holds examples alone"),
        (["a.txt"], r"a\.txt ends in '\.txt'"),
    ],
)
def test_a_folder_that_is_no_benchmark(tmp_path: Path, names: list[str], message: str) -> None:
    (tmp_path / "data").mkdir()
    for name in names:
        _write(tmp_path / "data" / name, ROWS)
    with pytest.raises(BadInput, match=rf"^evaluation\.tasks\.b\.data: .*{message}"):
        _check(tmp_path / "data")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": ""}, r"has no value in column 'answer' of row 5; add it"),
        ({"answer": None}, r"has no value in column 'answer' of row 5; add it"),
        ({"id": "0"}, r"has the id '0' in rows 1 and 5; remove one"),
    ],
)
def test_bad_rows(tmp_path: Path, changes: dict, message: str) -> None:
    path = _write(tmp_path / "rows.jsonl", [*ROWS[:-1], ROWS[-1] | changes])
    with pytest.raises(BadInput, match=rf"^evaluation\.tasks\.b\.data: .*rows\.jsonl {message}"):
        _check(path)


def test_bad_rows_of_gpqa(tmp_path: Path) -> None:
    rows = gpqa_rows()
    rows[1]["Record ID"] = rows[0]["Record ID"]
    with pytest.raises(BadInput, match=r"has the id 'rec00' in rows 1 and 2"):
        _check(_write(tmp_path / "rows.jsonl", rows), "gpqa_diamond")
    rows = gpqa_rows()
    rows[2]["Correct Answer"] = ""
    with pytest.raises(BadInput, match=r"no value in column 'Correct Answer' of row 3"):
        _check(_write(tmp_path / "rows.jsonl", rows), "gpqa_diamond")


def test_a_column_to_stratify_by_that_is_missing_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", gpqa_rows())
    _check(path, "gpqa_diamond", stratify="Subdomain")
    with pytest.raises(
        BadInput, match=r"evaluation\.tasks\.b\.stratify: .* no column 'Domain', found 'Record"
    ):
        _check(path, "gpqa_diamond", stratify="Domain")


def test_the_hash_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    hashes = set()
    for name, rows in (("one", ROWS), ("two", ROWS), ("three", ROWS[1:])):
        write_data(tmp_path / name, Data(rows, ROWS[:1]))
        hashes.add(data_hash(tmp_path / name))
    assert len(hashes) == 2
    (tmp_path / "one" / "questions.jsonl").rename(tmp_path / "one" / "other.jsonl")
    assert data_hash(tmp_path / "one") not in hashes


def test_rows_survive_being_written(tmp_path: Path) -> None:
    rows = [{"text": "Ångström → 1\n2", "n": 1.5, "list": [1, None], "table": {"a": None}}, {"text": ""}]
    write_data(tmp_path / "data", Data(rows, []))
    assert read_data(tmp_path / "data", "b") == Data(rows, [])


def test_examples_of_prompts_are_taken_from_their_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "task: mine\nnum_fewshot: 2\ndoc_to_text: '{{problem}}'\ndoc_to_target: answer\n"
    )
    settings = {"task": str(tmp_path / "mine.yaml"), "data": str(tmp_path / "data")}
    write_data(tmp_path / "data", Data(ROWS, aime_rows(9)[5:]))
    config = lm_eval_tasks("b", settings, 1, {})["b"]
    assert config["fewshot_split"] == "examples"
    assert [row["id"] for row in config["custom_dataset"]()["examples"]] == ["5", "6", "7", "8"]
    write_data(tmp_path / "data", Data(ROWS, []))
    assert lm_eval_tasks("b", settings, 1, {})["b"]["fewshot_split"] == "test"
