"""The command `bambo`, end points, sources and export on pico models."""

import sys
from pathlib import Path

import pico
import pytest
from bambo.cli import main
from bambo.endpoints import write_end_points
from bambo.errors import BadInput
from bambo.files import read_json, write_json
from bambo.report.summary import print_run
from bambo.run import Run
from demo_config import demo
from fake_run import fail, fake_run
from safetensors.torch import load_file


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two pico models, as its sources' records make it."""
    asked = {"engine": "hf", "tasks": {}}
    pair = pico.make_pair(tmp_path)
    return pico.run_of(pair, folder=tmp_path / "results", evaluation=asked, end_point_evaluation=asked)


def bambo(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["bambo", *map(str, arguments)])
    main()


def test_merge_makes_the_model_of_a_recipe(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (load_file(Path(source["path"]) / "model.safetensors") for source in run.sources.values())
    id = run.add(run.source_recipe(next(iter(run.sources))))
    bambo(monkeypatch, "merge", run.folder / "candidates" / id / "recipe.json", run.folder / "model")
    assert str(run.folder / "model") in capsys.readouterr().out
    merged = load_file(run.folder / "model" / "model.safetensors")
    assert merged.keys() == first.keys()
    assert all(merged[name].equal(first[name]) for name in first)
    assert not all(merged[name].equal(second[name]) for name in first)


@pytest.mark.parametrize("command", ["merge", "summary", "status", "check", "failed"])
def test_a_mistake_ends_in_one_line(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [tmp_path / "none.json", tmp_path / "out"] if command == "merge" else [tmp_path]
    with pytest.raises(SystemExit) as end:
        bambo(monkeypatch, command, *arguments)
    assert str(end.value.code).startswith(f"error: {tmp_path}")
    assert "\n" not in str(end.value.code)


def test_the_source_of_the_files_is_one_candidate_with_its_end_point(run: Run) -> None:
    written = write_end_points(run)
    first, second = run.sources
    assert written["own_files"][second] == written["end_points"][second]
    assert written["own_files"][first] != written["end_points"][first]
    for id in {*written["end_points"].values(), *written["own_files"].values()}:
        recipe = read_json(run.folder / "candidates" / id / "recipe.json")
        assert {tuple(weights) for weights in recipe["weights"].values()} <= {(1.0, 0.0), (0.0, 1.0)}


def test_a_source_that_changed_is_not_mixed_with_what_was_begun(run: Run) -> None:
    begun = write_end_points(run)
    assert write_end_points(run, begun) == begun
    name = next(iter(run.sources))
    run.sources[name]["fingerprint"] = "0"
    before = set((run.folder / "candidates").iterdir())
    with pytest.raises(BadInput, match=rf"sources\.{name}\.model: .* have changed since the run began"):
        write_end_points(run, begun)
    assert set((run.folder / "candidates").iterdir()) == before


def test_summary_prints_what_the_workflow_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bambo.report import tables
    from fake_run import frames

    run_dir = fake_run(tmp_path)
    for name, frame in frames()._asdict().items():
        tables.write(run_dir / "tables" / name, frame)
    print_run(run_dir)
    expected = capsys.readouterr().out
    bambo(monkeypatch, "summary", run_dir)
    assert capsys.readouterr().out == expected
    assert "Pareto front" in expected


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run as a user names it in the folder of the workflow."""
    monkeypatch.chdir(tmp_path)
    run = fake_run(Path("results/made-up"))
    command = ["snakemake", "--profile", "slurm"]
    write_json(run / "run.json", {"command": command, "started": "now", "parallel": 2, "config": demo()})
    return run


def test_failed_prints_paths_for_snakemake(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, other = sorted(path.name for path in (finished / "candidates").iterdir())[:3]
    fail(finished, first)
    fail(finished, second)
    paths = [f"results/made-up/candidates/{id}/scores.json" for id in (first, second)]
    for given in ["results/made-up", "results/made-up/", "./results/made-up", finished.absolute()]:
        bambo(monkeypatch, "failed", given)
        assert capsys.readouterr().out.splitlines() == paths
    bambo(monkeypatch, "failed", finished, second)
    assert capsys.readouterr().out.splitlines() == paths[1:]
    with pytest.raises(SystemExit, match=f"error: {finished}: found {other}, expected failed candidates"):
        bambo(monkeypatch, "failed", finished, first, other)
    assert not capsys.readouterr().out


def test_nothing_has_failed(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A text as exit code goes to standard error, with status 1.
    with pytest.raises(SystemExit, match="nothing has failed"):
        bambo(monkeypatch, "failed", finished)
    assert not capsys.readouterr().out


def test_status_of_a_run_that_is_named_with_a_slash(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bambo(monkeypatch, "status", "results/made-up/")
    assert capsys.readouterr().out.startswith("results/made-up, last started now; ")


def test_check_ends_with_status_1_where_something_is_damaged(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"command": ["snakemake"], "started": "now", "parallel": 2, "config": demo()}
    write_json(run.folder / "run.json", record)
    write_json(run.folder / "endpoints/candidates.json", write_end_points(run))
    bambo(monkeypatch, "check", run.folder)
    assert capsys.readouterr().out == "3 candidates, 0 proposals: all whole\n"
    path = run.folder / "endpoints/candidates.json"
    path.write_text("{")
    with pytest.raises(SystemExit) as end:
        bambo(monkeypatch, "check", run.folder)
    assert end.value.code == 1
    assert f"{path}: not valid JSON" in capsys.readouterr().out
