"""Two runs beside each other, in the terminal."""

from pathlib import Path

import pytest
from bambo.errors import BadInput
from bambo.files import read_json, write_json
from bambo.pareto import hypervolume
from bambo.records import read_record, write_record
from bambo.report import tables
from bambo.report.compare import lines
from fake_run import REFERENCE_POINT, VARIABLES, fake_run, write_tables

CONFIG = {"run": "a", "searches": {"blocks": {"iterations": 2}}, "evaluation": {"limit": 40}}


def finished(folder: Path, config: dict, **options: int) -> Path:
    """A run with its front's table and run.json."""
    fake_run(folder, **options)
    write_tables(folder)
    write_json(folder / "run.json", {"config": config})
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    other = {**CONFIG, "run": "b", "searches": {"blocks": {"iterations": 3, "seed": 1}}}
    return finished(folder / "a", CONFIG), finished(folder / "b", other, iterations=3, seed=1)


def row(text: list[str], run: Path, search: str) -> list[str]:
    return next(line.split() for line in text if line.split()[:2] == [str(run), search])


def test_configs_hypervolumes_and_the_front_of_both(runs: tuple[Path, Path]) -> None:
    text = list(lines(*runs))
    assert [line.split() for line in text if line.startswith("  searches.")] == [
        ["searches.blocks.iterations", "2", "|", "3"],
        ["searches.blocks.seed", "(default)", "|", "1"],
    ]
    assert not any("evaluation.limit" in line or line.startswith("  run ") for line in text)
    for run, evaluations in zip(runs, ("16", "20"), strict=True):
        observations = tables.observations(tables.read_run(run, VARIABLES))
        Y = tables.members(observations, "blocks")[["reasoning", "efficiency"]].to_numpy(float)
        shown = row(text, run, "blocks")
        assert shown[2] == evaluations
        assert float(shown[5]) == pytest.approx(hypervolume(Y, REFERENCE_POINT), abs=1e-4)
        assert 0 < float(shown[6]) < 1.5
    start = text.index("Observed front of both together:")
    front = [line.split() for line in text[start + 2 :] if len(line.split()) >= 4 and "of these" not in line]
    tokens = [float(each[2]) for each in front]
    accuracy = [float(each[1]) for each in front]
    assert tokens == sorted(tokens)
    assert accuracy == sorted(accuracy)  # of two objectives, more tokens for more accuracy
    assert {each[3] for each in front} <= {str(run) for run in runs}


def test_a_run_beside_itself(runs: tuple[Path, Path]) -> None:
    text = list(lines(runs[0], runs[0]))
    assert "Their configs say the same." in text
    assert f"{runs[0]} and {runs[0]}" in text[0]


def test_other_end_points_are_brought_to_one_scale(runs: tuple[Path, Path], tmp_path: Path) -> None:
    moved = finished(tmp_path / "moved", CONFIG, iterations=3, seed=1)
    path = moved / "endpoints" / "normalisation.json"
    scale = read_json(path)
    for part in scale["objectives"]["reasoning"]["benchmarks"].values():
        part["expert"] += 1.0
    write_json(path, scale)
    text = list(lines(runs[0], moved))
    assert any("0 and 1 of all objectives are those of" in line for line in text)
    expected, shown = row(list(lines(*runs)), runs[1], "blocks"), row(text, moved, "blocks")
    assert shown[2:6] == expected[2:6]  # as if its own scale were the first one's
    assert shown[6] == "-"


def test_runs_that_cannot_be_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"endpoints/normalisation\.json: no such file"):
        list(lines(runs[0], tmp_path))
    other = finished(tmp_path / "other", CONFIG)
    for path in other.glob("candidates/*/scores.json"):
        scores = read_record(path, "scores")
        del scores["benchmarks"]["tiny_aime"]
        write_record(path, "scores", scores)
    path = other / "endpoints" / "normalisation.json"
    scale = read_json(path)
    for spec in scale["objectives"].values():
        del spec["benchmarks"]["tiny_aime"]
    write_json(path, scale)
    with pytest.raises(BadInput, match="other: has no scores of tiny_aime"):
        list(lines(runs[0], other))
