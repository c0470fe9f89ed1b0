"""Files are whole or absent; a user's mistake ends in one line."""

import errno
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest
from bambo.errors import BadInput, plain_errors
from bambo.files import atomic, content_hash, file_hash, read_json, write_json
from bambo.jobs import job


def test_a_block_that_raises_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("half") and 1 / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_json_holds_no_number_for_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan"):
        write_json(tmp_path / "scores.json", {"accuracy": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_damaged_or_missing_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"a": ')
    for name in ("bad.json", "none.json"):
        with pytest.raises(BadInput, match=name):
            read_json(tmp_path / name)


def test_hashes(tmp_path: Path) -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1}) != content_hash({"a": 2, "b": 1})
    (tmp_path / "empty").touch()
    assert file_hash(tmp_path / "empty").startswith("e3b0c44298fc")


def test_bad_input_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, plain_errors():
        raise BadInput("config.yaml: no run; add it")
    assert end.value.code == "error: config.yaml: no run; add it"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            "a/b: No space left on device; free space, then",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a/b"), "a/b: Disk quota exceeded; free space, then"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "a/b"),
            "a/b: No such file; see whether its folder is there",
        ),
        (OSError("odd"), "a file of the run: odd; see whether its folder is there"),
    ],
)
def test_what_the_system_refuses_ends_with_one_line(error: OSError, text: str) -> None:
    with pytest.raises(SystemExit) as end, plain_errors():
        raise error
    assert end.value.code.startswith(f"error: {text}")
    assert end.value.code.endswith("start again: what is finished is kept")


def test_a_job_that_finds_no_space_says_so_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    code = f"from bambo.jobs import job\nwith job({str(log)!r}):\n"
    code += "    raise OSError(28, 'No space left on device', 'a/b')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: a/b: No space left on device; free space")
    assert log.read_text() == done.stderr


def test_a_job_logs_the_mistake_too(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    code = (
        "from bambo.jobs import job\nfrom bambo.errors import BadInput\n"
        f"with job({str(log)!r}):\n    raise BadInput('here: wrong; mend it')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: here: wrong; mend it\n"
    assert log.read_text() == "error: here: wrong; mend it\n"


def test_other_exceptions_pass_through_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    with pytest.raises(ZeroDivisionError), job(str(tmp_path / "log")):
        1 / 0  # noqa: B018
