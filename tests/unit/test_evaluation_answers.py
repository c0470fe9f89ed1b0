from pathlib import Path

import pytest
from bambo.errors import BadInput
from bambo.evaluation.answers import append_answers, read_answers

CHUNKS = [{"key": str(n), "outputs": [[[n, n + 1], "eos"]], "cost": {"seconds": 0.5}} for n in range(3)]


def _filled(path: Path) -> Path:
    for chunk in CHUNKS:
        append_answers(path, chunk)
    return path


def test_no_file_is_no_answer(tmp_path: Path) -> None:
    assert read_answers(tmp_path / "answers.jsonl") == {}


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    assert read_answers(_filled(tmp_path / "answers.jsonl")) == {chunk["key"]: chunk for chunk in CHUNKS}


def test_a_file_cut_anywhere_keeps_its_whole_lines_and_can_be_appended_to(tmp_path: Path) -> None:
    data = _filled(tmp_path / "whole.jsonl").read_bytes()
    for size in range(len(data)):
        path = tmp_path / f"{size}.jsonl"
        path.write_bytes(data[:size])
        kept = data[:size].count(b"\n")
        assert list(read_answers(path)) == [str(n) for n in range(kept)]
        append_answers(path, CHUNKS[2])
        assert list(read_answers(path)) == [*(str(n) for n in range(min(kept, 2))), "2"]


def test_damage_that_no_kill_explains_is_reported(tmp_path: Path) -> None:
    path = _filled(tmp_path / "answers.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"key"', b"key", 1))
    with pytest.raises(BadInput, match=r"answers\.jsonl: damaged"):
        read_answers(path)
