"""Records: what was written is read back, and nothing else is."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from bambo.candidate.folder import is_scored, read_samples, read_scores, write_failure
from bambo.errors import BadInput
from bambo.files import content_hash
from bambo.records import VERSIONS, Damaged, read_record, write_record
from fake_run import measured_scores, write_scores
from hypothesis import example, given
from hypothesis import strategies as st
from numpy import full

SMALL = {"id": "0a", "status": "ok", "n": [1, -0.0, 1e300, None], "é": {"\n": True}}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.dictionaries(st.text().filter(lambda key: key not in ("format", "checksum")), VALUES, max_size=5)


def damaged(path: Path, contents: bytes) -> str:
    """What is said of these contents, which are not what was written."""
    path.write_bytes(contents)
    with pytest.raises(Damaged) as found:
        read_record(path, "scores")
    message = str(found.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write_record(tmp_path / "scores.json", "scores", SMALL)
    return tmp_path / "scores.json"


@given(RECORDS, st.sampled_from(list(VERSIONS)))
@example(SMALL, "scores")
def test_what_was_written_is_read_back(value: dict[str, Any], kind: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        write_record(path, kind, value)
        assert read_record(path, kind) == value
        contents = path.read_bytes()
        write_record(path, kind, read_record(path, kind))
        assert path.read_bytes() == contents
        assert [other.name for other in Path(folder).iterdir()] == ["record.json"]


@given(RECORDS, st.data())
def test_a_file_that_differs_in_a_byte_or_in_length_is_damaged(
    value: dict[str, Any], data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        write_record(path, "scores", value)
        contents = path.read_bytes()
        place = data.draw(st.integers(0, len(contents) - 1))
        damaged(path, contents[:place])
        damaged(path, contents[:place] + contents[place + 1 :])
        byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != contents[place]))
        damaged(path, contents[:place] + bytes([byte]) + contents[place + 1 :])
        damaged(path, contents + data.draw(st.binary(min_size=1)))


def test_every_truncation_is_seen(small: Path) -> None:
    contents = small.read_bytes()
    for length in range(len(contents)):
        damaged(small, contents[:length])


def test_every_flipped_bit_is_seen(small: Path) -> None:
    contents = small.read_bytes()
    for place in range(len(contents)):
        for bit in range(8):
            flipped = bytearray(contents)
            flipped[place] ^= 1 << bit
            damaged(small, bytes(flipped))


@pytest.mark.parametrize(
    "contents", [b"", b"\0" * 4096, b"\xff\xfe", b"[]", b"1", b"null", b"{}", b"[" * 100]
)
def test_what_is_no_record_is_damaged(tmp_path: Path, contents: bytes) -> None:
    assert "not a whole scores file" in damaged(tmp_path / "scores.json", contents)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_damaged(small: Path, number: str) -> None:
    contents = small.read_text().replace("1e+300", number)
    assert number in contents
    damaged(small, contents.encode())


def test_the_same_contents_in_another_layout_are_not_what_was_written(small: Path) -> None:
    damaged(small, json.dumps(json.loads(small.read_text())).encode())


def test_another_version_is_named(small: Path) -> None:
    body = {"format": "scores/0", **SMALL}
    text = json.dumps({**body, "checksum": content_hash(body)}, indent=1) + "\n"
    assert "its format is 'scores/0', expected 'scores/1'" in damaged(small, text.encode())
    write_record(small, "proposal", SMALL)
    assert "its format is 'proposal/2', expected 'scores/1'" in damaged(small, small.read_bytes())


def test_a_missing_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"scores\.json: no such file") as missing:
        read_record(tmp_path / "scores.json", "scores")
    assert not isinstance(missing.value, Damaged)


def test_no_number_stands_for_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path / "scores.json", "scores", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


# A candidate's folder


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    folder = tmp_path / "00000000000a"
    write_scores(folder, measured_scores(folder.name, full(8, 0.5)))
    return folder


def test_whole_scores_with_their_samples_count(scored: Path) -> None:
    assert is_scored(scored)
    assert read_scores(scored)["status"] == "ok"
    assert len(read_samples(scored)) == 1


def test_scores_of_another_candidate_are_damaged(scored: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved = scored.rename(scored.with_name("00000000000b"))
    with pytest.raises(Damaged, match="holds the scores of 00000000000a, expected those of 00000000000b"):
        read_scores(moved)
    assert not is_scored(moved)
    assert "evaluated again" in caplog.text


@pytest.mark.parametrize(("contents", "state"), [(None, "missing"), (b"PAR1", "damaged")])
def test_scores_without_their_samples_do_not_count(
    scored: Path, caplog: pytest.LogCaptureFixture, contents: bytes | None, state: str
) -> None:
    samples = scored / "samples.parquet"
    samples.unlink() if contents is None else samples.write_bytes(contents)
    assert not is_scored(scored)
    assert f"samples.parquet: {state}, expected the file that was written with scores.json" in caplog.text
    with pytest.raises(Damaged, match=state):
        read_samples(scored)


def test_a_failure_is_read_and_does_not_count(scored: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_failure(scored, "out of memory", "no byte left", 3)
    assert read_scores(scored) == {
        **{"id": scored.name, "status": "failed", "failure": "out of memory"},
        **{"reason": "no byte left", "attempts": 3},
    }
    assert not is_scored(scored)
    assert caplog.text == ""
    # The samples that are there were written with other scores.
    with pytest.raises(BadInput, match=r"00000000000a: its evaluation failed \(out of memory\)"):
        read_samples(scored)
