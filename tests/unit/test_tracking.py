"""Trackers: what they hold, that nothing is logged twice, and that no failure of theirs stops anything."""

import sys
from pathlib import Path
from typing import Any

import pytest
from bambo.config import load
from bambo.report import tables
from bambo.tracking import logged, track
from demo_config import demo
from fake_run import fake_run, write_tables


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(iterations: int = 2, **tracking: str) -> Any:
    config = load(demo(run="small", tracking=tracking))
    write_tables(fake_run(config.folder, iterations=iterations))
    return config


def history(store: Path, search: str, metric: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store.resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    [own] = [each for each in client.search_runs([experiment.experiment_id]) if each.info.run_name == search]
    return [(each.step, each.value) for each in client.get_metric_history(own.info.run_id, metric)]


def test_a_row_an_evaluation_with_the_tables_numbers() -> None:
    config = run()
    found = {each.search: each for each in logged(config)}
    assert list(found) == ["blocks", "single"]
    steps = found["blocks"].steps
    assert steps["evaluations"].tolist() == list(range(1, 17))
    assert steps["hypervolume"].is_monotonic_increasing
    frame = tables.read(config.folder, "observations")
    own = frame[frame["search"] == "blocks"]
    assert steps["accuracy"].tolist() == pytest.approx(own["accuracy"].tolist())
    assert "tiny_gpqa.tokens" in steps
    assert found["blocks"].settings["optimiser"] == "bayesian"


def test_mlflow_has_every_evaluation_once(tmp_path: Path) -> None:
    config = run(iterations=1, mlflow="store")
    assert track(config) == []
    first = history(tmp_path / "store", "blocks", "hypervolume")
    assert [step for step, _ in first] == list(range(1, 13))
    run(iterations=2, mlflow="store")  # the same run, longer
    assert track(config) == []
    assert track(config) == []
    longer = history(tmp_path / "store", "blocks", "hypervolume")
    assert [step for step, _ in longer] == list(range(1, 17))
    assert longer[:12] == first
    assert len(history(tmp_path / "store", "single", "accuracy")) == 9
    assert list((tmp_path / "store/artifacts").rglob("tables/pareto.csv"))


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = run(tensorboard="board")
    for _ in range(2):  # anew, not beside
        assert track(config) == []
    folder = tmp_path / "board/small/blocks"
    assert len(list(folder.iterdir())) == 1
    events = EventAccumulator(str(folder)).Reload()
    steps = {each.search: each.steps for each in logged(config)}["blocks"]
    scalars = events.Scalars("reasoning")
    assert [each.step for each in scalars] == steps["evaluations"].tolist()
    assert [each.value for each in scalars] == pytest.approx(steps["reasoning"].tolist(), rel=1e-6)
    assert events.Tags()["tensors"] == ["settings/text_summary"]


def test_failures_are_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    config = run(mlflow="file", tensorboard="file/below")
    mlflow, board = track(config)
    assert mlflow.startswith("tracking.mlflow: ")
    assert mlflow.endswith("the run is not affected")
    assert board.startswith("tracking.tensorboard: ")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert "pip install 'bambo[tracking]'" in track(run(mlflow="store"))[0]
    assert track(run()) == []


def test_a_run_that_has_not_begun_is_a_warning_too() -> None:
    [warning] = track(load(demo(run="none", tracking={"mlflow": "store"})))
    assert "no such file" in warning
