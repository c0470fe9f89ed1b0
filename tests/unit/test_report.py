"""Report and README of a run."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bambo.candidate.folder import read_scores
from bambo.config import load
from bambo.files import write_json
from bambo.report import figures, fronts, searches, style, tables
from bambo.report.report import CAPTIONS, html, needs_table, readme, sections, write_report
from demo_config import demo
from fake_run import REFERENCE_POINT, SETTINGS, VARIABLES, fail, fake_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with one failure."""
    run_dir = fake_run(tmp_path_factory.mktemp("work") / "results" / "made-up")
    fail(
        run_dir, tables.read_run(run_dir, VARIABLES).proposals["blocks"][1]["candidates"][0], "out of memory"
    )
    run = tables.read_run(run_dir, VARIABLES)
    observations = tables.observations(run)
    pareto = fronts.pareto(run, observations, SETTINGS, REFERENCE_POINT)
    presets = {"blocks": "bambo-robust", "single": "model-grid"}
    table = searches.table(run, observations, pareto, SETTINGS, presets, REFERENCE_POINT)
    tables.write(run_dir / "tables" / "observations", observations, parquet=True)
    tables.write(run_dir / "tables" / "pareto", pareto)
    tables.write(run_dir / "tables" / "searches", table)
    style.save(
        figures.figure_objective_space(observations, pareto, REFERENCE_POINT),
        run_dir / "figures/objectives.svg",
    )
    write_json(run_dir / "run.json", {"started": "2026-01-01 10:00:00"})
    return run_dir


def config(monkeypatch: pytest.MonkeyPatch, run: Path, **selection: Any) -> Any:
    """The demo's config for the made-up run, whose folder is that of its name where the test is."""
    found = load(demo(selection=selection) | {"run": run.name})
    monkeypatch.chdir(run.parents[1])
    return found


def frames_of(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_parquet(run / "tables" / "observations.parquet"), tables.read(run, "pareto")


def test_what_to_take_for_which_need(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(monkeypatch, run, preferences={"chat": [1, 9]}, front="observed")
    observations, pareto = frames_of(run)
    table = needs_table(asked, observations, pareto).set_index("need")
    rows = pareto[(pareto["search"] == tables.ALL) & (pareto["front"] == "observed")]
    assert table.loc["most accurate", "accuracy"] == rows["accuracy"].max()
    brief = table.loc["briefest within 1% of the best accuracy"]
    close = rows[rows["accuracy"] >= rows["accuracy"].max() - 0.01]
    assert brief["tokens"] == close["tokens"].min()
    (budget,) = [need for need in table.index if need.startswith("most accurate with at most")]
    limit = tables.end_points(observations)["tokens"].max() / 2
    assert table.loc[budget, "accuracy"] == rows.loc[rows["tokens"] <= limit, "accuracy"].max()
    assert {"balanced", "your preference chat", "best of tiny_gpqa", "best of tiny_aime"} <= set(table.index)
    assert table.loc["your preference chat", "tokens"] <= table.loc["balanced", "tokens"]
    ends = dict(
        zip(*tables.end_points(observations)["candidate"].reset_index().to_numpy().T[::-1], strict=True)
    )
    for row in table.itertuples():
        assert row.source == (f" ({ends[row.candidate]})" if row.candidate in ends else "")


def test_readme_and_report_are_written_and_name_the_models(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(monkeypatch, run)
    write_report(asked)
    text, page = (run / "README.md").read_text(), (run / "report.html").read_text()
    choice = needs_table(asked, *frames_of(run))
    for row in choice.itertuples():
        scores = read_scores(run / "candidates" / row.candidate)["benchmarks"]
        mean = sum(part["accuracy"] for part in scores.values()) / len(scores)
        assert f"| {row.need} | `{row.candidate}`{row.source} | {mean:.3f} ± " in text
        assert row.candidate in page
    assert f"export: [{', '.join(dict.fromkeys(choice['candidate']))}]" in text
    assert "out of memory" in page
    assert "SIMULATED" not in text + page
    # One file: figures are in it, and what the run has none of is left out.
    assert page.count("data:image/svg+xml;base64,") == 1
    assert CAPTIONS["objectives"] in page
    assert not re.findall(r'(?:src|href)="(?!data:|front\.html)', page)


def test_simulated_scores_are_called_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(monkeypatch, run)
    observations, pareto = frames_of(run)
    observations["warning"] = "simulated"
    choice = needs_table(asked, observations, pareto)
    assert "SIMULATED" in readme(asked, observations, choice)
    page = html(asked, observations, sections(asked, observations, pareto, choice))
    assert "SIMULATED" in page


def test_nobody_within_the_limits(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(monkeypatch, run, limits={"tokens": {"max": 0.5}})
    observations, pareto = frames_of(run)
    choice = needs_table(asked, observations, pareto)
    assert choice.empty
    assert "No model of the front is within `selection.limits`" in readme(asked, observations, choice)
    assert "Which model" in html(asked, observations, sections(asked, observations, pareto, choice))


def test_every_figure_of_a_run_has_a_caption() -> None:
    assert {
        "partition",
        "objectives",
        "progress",
        "searches",
        "weights",
        "surrogates",
        "importance",
    } <= CAPTIONS.keys()
