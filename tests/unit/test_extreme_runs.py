"""Tables, figures and pages of runs at the edges: one model on the front, hundreds, none, three objectives."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bambo.files import read_json
from bambo.records import read_record, write_record
from demo_config import REMOVED
from simulated_run import SimulatedRun, absolute

SOBOL = {"preset": "sobol", "n_initial": 4, "iterations": 1, "seed": 0}
GRID = {"preset": "model-grid", "weights": [0.25, 0.5, 0.75]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begun(evaluations: int, **changes: Any) -> SimulatedRun:
    search = SOBOL | {"batch_size": evaluations - 4}
    return SimulatedRun(absolute(searches={"sobol": search, "single": GRID}, **changes))


def rate(run: SimulatedRun, id: str, accuracy: float, tokens: float) -> None:
    """Give a candidate other scores; its answers stay."""
    path = run.folder / "candidates" / id / "scores.json"
    scores = read_record(path, "scores")
    for part in scores["benchmarks"].values():
        part |= {"accuracy": accuracy, "accuracy_stderr": 0.001, "tokens": tokens, "tokens_stderr": 0.01}
    write_record(path, "scores", scores)


def merges(run: SimulatedRun) -> list[str]:
    """Candidates of the searches but the sources."""
    ends = set(read_json(run.folder / "endpoints/candidates.json")["end_points"].values())
    paths = sorted(run.folder.glob("search/*/proposals/*.json"))
    ids = [id for path in paths for id in json.loads(path.read_text())["candidates"]]
    return [id for id in dict.fromkeys(ids) if id not in ends]


def front(run: SimulatedRun) -> pd.DataFrame:
    pareto = pd.read_csv(run.folder / "tables/pareto.csv")
    return pareto[(pareto["search"] == "all") & (pareto["front"] == "observed")]


def check_pages(run: SimulatedRun) -> str:
    """Every figure is there and has no NaN in it, and the pages hold what they must; returns the report's text."""
    for path in (run.folder / "figures").glob("*.svg"):
        text = re.sub(r"data:image/png;base64,[^\"]+", "", path.read_text())
        assert "nan" not in text, path.name
    assert len(list((run.folder / "figures").glob("*.svg"))) == 11
    page, report = ((run.folder / name).read_text() for name in ("front.html", "report.html"))
    assert len(page) < 6e6
    assert len(report) < 6e6
    assert "SIMULATED" in page
    assert "SIMULATED" in report
    return re.sub(r"data:image/svg\+xml;base64,[^\"]+", "", report)


def test_one_model_on_the_front() -> None:
    run = begun(5)
    for search in ("sobol", "single"):
        run.search(search)
    best = merges(run)[0]
    rate(run, best, 1.0, 1.0)
    run.report()
    assert front(run)["candidate"].tolist() == [best]
    text = check_pages(run)
    assert best in text
    assert best in (run.folder / "README.md").read_text()


def test_three_hundred_models_on_the_front() -> None:
    run = begun(300, selection__front="observed")
    for search in ("sobol", "single"):
        run.search(search)
    ids = merges(run)
    for place, id in enumerate(ids):
        share = place / len(ids)
        rate(run, id, 0.5 + 0.5 * share, 1 + share)
    run.report()
    assert len(front(run)) >= 300
    assert check_pages(run).count("<tr") > 300


def test_failures_alone_leave_the_sources() -> None:
    run = begun(5)
    for search in ("sobol", "single"):
        run.search(search)
    lost = merges(run)
    for id in lost:
        run.fail(id)
    run.report()
    ends = read_json(run.folder / "endpoints/candidates.json")["end_points"]
    assert set(front(run)["candidate"]) == set(ends.values())
    text = check_pages(run)
    assert text.count("always fails") == len(lost)


def test_three_objectives() -> None:
    long, short = {"expert": "thinking", "base": "instruct"}, {"expert": "instruct", "base": "thinking"}
    objectives = {
        "science": {"metric": "accuracy", **long, "benchmarks": ["tiny_gpqa"]},
        "mathematics": {"metric": "accuracy", **long, "benchmarks": ["tiny_aime"]},
        "efficiency": {"metric": "tokens", **short},
    }
    run = begun(12, objectives=objectives, reference_point=REMOVED)
    for search in ("sobol", "single"):
        run.search(search)
    run.report()
    text = check_pages(run)
    assert all(name in text for name in objectives)
