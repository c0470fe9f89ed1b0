"""The command `bambo`, end points, sources and export on pico models."""

import sys
from pathlib import Path

import pico
import pytest
from bambo.cli import main
from bambo.endpoints import write_end_points
from bambo.errors import BadInput
from bambo.export import export
from bambo.files import read_json
from bambo.report.summary import print_run
from bambo.run import Run
from bambo.sources import describe
from fake_run import fake_run
from safetensors.torch import load_file


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two pico models, as its sources' records make it."""
    records = {name: describe(str(path), None) for name, path in pico.make_pair(tmp_path).items()}
    return Run(
        folder=tmp_path / "results",
        sources={
            name: {key: record[key] for key in ("path", "fingerprint", "sample")}
            for name, record in records.items()
        },
        groups=next(iter(records.values()))["groups"],
        files_from=list(records)[-1],
        evaluation={"tasks": {}},
        end_point_evaluation={"tasks": {}},
    )


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


@pytest.mark.parametrize("command", ["merge", "summary"])
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


def test_exported_models_carry_their_recipe(run: Run) -> None:
    id = run.add(run.recipe(dict.fromkeys(run.groups, 0.25)))
    index = export(run.folder, [{"name": "balanced", "candidate": id}], run.folder / "models")
    folder = run.folder / "models" / "balanced"
    assert index == [{"name": "balanced", "candidate": id, "path": str(folder)}]
    assert read_json(folder / "recipe.json")["id"] == id
    assert {"config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}
    assert [path.name for path in (run.folder / "models").iterdir()] == ["balanced"]


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
