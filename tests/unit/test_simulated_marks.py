"""Scores that are made up are called so wherever a reader meets them."""

from pathlib import Path

import pytest
from bambo.errors import BadInput
from bambo.export import export
from bambo.files import read_json, write_json
from bambo.records import read_record, write_record
from bambo.report import figures, summary, tables
from fake_run import REFERENCE_POINT, VARIABLES, Frames, fake_run, frames
from matplotlib.figure import Figure


def marked() -> Frames:
    """The tables of the fake run as if its scores were simulated."""
    table = frames()
    scored = table.observations["status"] == "ok"
    warning = table.observations["warning"].where(~scored, "simulated")
    return table._replace(observations=table.observations.assign(warning=warning))


def pages(table: Frames) -> list[Figure]:
    return [
        figures.figure_objective_space(table.observations, table.pareto, REFERENCE_POINT),
        figures.figure_progress(table.observations, table.hypervolume),
        figures.figure_weights(table.observations, table.pareto),
    ]


def test_the_warning_of_every_simulated_candidate(tmp_path: Path) -> None:
    run_dir = fake_run(tmp_path)
    for path in run_dir.glob("candidates/*/scores.json"):
        scores = read_record(path, "scores")
        write_record(path, "scores", {**scores, "engine": "simulated"})
    found = tables.observations(tables.read_run(run_dir, VARIABLES))
    assert tables.is_simulated(found)
    assert found["warning"].str.startswith("simulated").all()
    cut = found.filter(like=".truncated").gt(tables.TRUNCATED_LIMIT).any(axis=1)
    assert cut.any()
    assert (tables.truncated(found) == cut).all()
    tables.write(tmp_path / "tables" / "observations", found)
    assert tables.is_simulated(tables.read(tmp_path, "observations"))


def test_a_real_run_is_not_marked() -> None:
    table = frames()
    assert not tables.is_simulated(table.observations)
    assert "SIMULATED" not in summary.front_text(*table, [], Path("results/fake"))
    assert "SIMULATED" not in summary.progress_line(table.observations, "blocks", 48, REFERENCE_POINT)
    assert all(figure.get_suptitle() == "" for figure in pages(table))


def test_the_terminal_says_so_first() -> None:
    table = marked()
    assert summary.front_text(*table, [], Path("results/fake")).startswith("SIMULATED: ")
    line = summary.progress_line(table.observations, "blocks", 48, REFERENCE_POINT)
    assert line.startswith("SIMULATED: blocks, iteration 2: ")
    assert "truncated" not in line


def test_every_figure_of_scores_says_so() -> None:
    assert all("SIMULATED" in figure.get_suptitle() for figure in pages(marked()))


def test_there_is_nothing_to_export(tmp_path: Path) -> None:
    run_dir = fake_run(tmp_path / "run")
    candidate = next(run_dir.glob("candidates/*/recipe.json")).parent.name
    path = run_dir / "candidates" / candidate / "recipe.json"
    recipe = read_json(path)
    write_json(path, recipe | {"evaluation": {**recipe["evaluation"], "engine": "simulated"}})
    with pytest.raises(BadInput, match="its scores are simulated"):
        export(run_dir, [{"name": "best", "candidate": candidate}], run_dir / "models")
    assert not (run_dir / "models").exists()
