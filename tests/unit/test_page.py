"""What the interactive page knows, and that it is one file; how it behaves in a browser is tested in tests/page."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bambo.candidate.folder import SAMPLES, read_scores
from bambo.files import file_hash
from bambo.records import write_record
from bambo.report import fronts, tables
from bambo.report.page import END_POINTS, answers, page, page_data, write_page
from fake_run import REFERENCE_POINT, SETTINGS, VARIABLES, fail, fake_run, frames, write_tables


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run whose candidates have one answer each."""
    run_dir = fake_run(tmp_path / "made-up")
    write_tables(run_dir)
    return run_dir


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_one_file_that_needs_no_network(run_dir: Path) -> None:
    write_page(run_dir, "made-up", "posterior", 3)
    text = (run_dir / "front.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 6e6
    own = text.replace(re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1], "")  # type: ignore[index]
    assert not re.findall(r"(?:src|href)\s*=", own.replace("src: `${D.folder}", ""))
    assert re.findall(r"https?://[^\"`\s]+", own) == [
        "https://vega.github.io/schema/vega-lite/v6.json"
    ]  # a name
    assert "SIMULATED" not in text


def test_every_scored_model_with_its_scores_weights_and_fronts(run_dir: Path) -> None:
    observations = pd.read_parquet(run_dir / "tables" / "observations.parquet")
    pareto = tables.read(run_dir, "pareto")
    write_page(run_dir, "made-up", "posterior", 3)
    data = data_of((run_dir / "front.html").read_text(encoding="utf-8"))
    models = {model["id"]: model for model in data["models"]}
    given = set(tables.end_points(observations)["candidate"])
    proposed = set(observations.loc[observations["search"] != tables.REFERENCE, "candidate"])
    assert models.keys() == proposed | given
    assert {id for id, model in models.items() if model["search"] == END_POINTS} == given
    for id, model in models.items():
        scores = read_scores(run_dir / "candidates" / id)["benchmarks"]
        for name, part in scores.items():
            assert model["values"][f"{name}.accuracy"] == pytest.approx(part["accuracy"])
            assert model["errors"][f"{name}.tokens"] == pytest.approx(part["tokens_stderr"])
        assert model["values"]["accuracy"] == pytest.approx(
            sum(part["accuracy"] for part in scores.values()) / len(scores)
        )
    every = pareto[pareto["search"] == tables.ALL]
    for front in ("observed", "posterior"):
        members = list(every.loc[every["front"] == front, "candidate"])
        # In the order of the table, by which equal choices are told apart.
        assert [model["id"] for model in data["models"] if front in model["fronts"]] == members
        assert all(models[id]["recipe"]["id"] == id for id in members)
    assert [limit["metric"] + " " + limit["end"] for limit in data["limits"]] == [
        "accuracy min",
        "tokens max",
    ]


def test_failures_are_no_points(tmp_path: Path) -> None:
    run_dir = fake_run(tmp_path)
    failed = tables.read_run(run_dir, VARIABLES).proposals["blocks"][1]["candidates"][0]
    fail(run_dir, failed)
    run = tables.read_run(run_dir, VARIABLES)
    observations = tables.observations(run)
    pareto = fronts.pareto(run, observations, SETTINGS, REFERENCE_POINT)
    none = pd.DataFrame(columns=["name", "candidate"])
    data = page_data(observations, pareto, none, {}, set(), "observed", 3)
    assert failed not in {model["id"] for model in data["models"]}
    assert json.dumps(data, allow_nan=False)


@pytest.mark.parametrize("objectives", [3, 4])
def test_more_objectives(objectives: int) -> None:
    table = frames(objectives)
    data = page_data(table.observations, table.pareto, table.selection, {}, set(), "posterior", 3)
    assert len(data["objectives"]) == objectives == len(data["models"][0]["objectives"])
    assert {limit["metric"] for limit in data["limits"]} == set(tables.raw_metrics(table.observations))
    assert "made-up" in page("made-up", data, simulated=False)


def test_simulated_scores_are_called_so() -> None:
    table = frames()
    data = page_data(table.observations, table.pareto, table.selection, {}, set(), "posterior", 3)
    assert "SIMULATED: all scores are made up" in page("made-up", data, simulated=True)


def test_answers_of_whoever_may_be_chosen(run_dir: Path) -> None:
    write_page(run_dir, "made-up", "posterior", 3)
    pareto, selection = tables.read(run_dir, "pareto"), tables.read(run_dir, "selection")
    every = pareto[(pareto["search"] == tables.ALL) & (pareto["front"] == "posterior")]
    observations = pd.read_parquet(run_dir / "tables" / "observations.parquet")
    expected = {*every["candidate"], *selection["candidate"], *tables.end_points(observations)["candidate"]}
    assert {path.stem for path in (run_dir / "answers").iterdir()} == expected
    data = data_of((run_dir / "front.html").read_text(encoding="utf-8"))
    assert {model["id"] for model in data["models"] if model["answers"]} == expected


def test_texts_cannot_end_the_script_that_they_are_in(run_dir: Path) -> None:
    folder = next(path.parent for path in run_dir.glob("candidates/*/samples.parquet"))
    samples = pd.read_parquet(folder / SAMPLES)
    hostile = "</script><script>alert(1)</script><!-- \u2028 \\boxed{A}"
    samples["text"] = hostile
    scores = read_scores(folder)
    samples.to_parquet(folder / SAMPLES)
    write_record(folder / "scores.json", "scores", {**scores, "samples": file_hash(folder / SAMPLES)})
    text = answers(folder)
    assert "</script" not in text
    assert "<!--" not in text
    rows = text.removeprefix(f'bamboAnswers("{folder.name}", ').removesuffix(");\n")
    assert json.loads(rows)[0]["text"] == hostile
