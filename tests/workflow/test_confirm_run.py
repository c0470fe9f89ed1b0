"""`snakemake confirm` for real on the embedded pair: only when asked for, and shown in the report."""

from pathlib import Path

import pandas as pd
import pytest
from runs import Workflow, small_config


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    config = small_config()
    config["confirm"]["members"] = 2
    # Few held-out questions are enough here.
    folder = tmp_path_factory.mktemp("confirmed")
    for name, path in config["confirm"]["data"].items():
        lines = Path(path).read_text().splitlines()
        small = folder / f"{name}{Path(path).suffix}"
        small.write_text("\n".join([*lines[:40], ""]))
        config["confirm"]["data"][name] = str(small)
    workflow = Workflow(folder, config)
    assert "confirm" not in workflow.succeed("--dry-run", "--quiet", "progress").replace(str(folder), "")
    workflow.output = workflow.succeed("confirm")
    workflow.config = config
    return workflow


def test_tables_and_report_show_it(confirmed: Workflow) -> None:
    models = pd.read_csv(confirmed.results / "tables/confirmed.csv")
    assert models["questions"].unique().tolist() == ["held-out"]
    assert models["found_by"].tolist()[-2:] == ["end points", "end points"]
    assert 1 <= len(models) - 2 <= 2
    counts = {"tiny_gpqa": 39, "tiny_aime": 40}  # a line of the csv is its header
    assert (models["answers"] == sum(counts.values())).all()
    promises = pd.read_csv(confirmed.results / "tables/optimism.csv")
    assert set(promises["measure"]) == {"reasoning", "efficiency", "hypervolume"}
    report = (confirmed.results / "report.html").read_text()
    assert "The same models on fresh answers" in report
    assert models["candidate"][0] in report


def test_nothing_is_left_to_be_done(confirmed: Workflow) -> None:
    assert "Nothing to be done" in confirmed.succeed("confirm", "--dry-run")
    assert "Nothing to be done" in confirmed.succeed("--dry-run")
    assert "confirm: " in confirmed.bambo("status", "results/small").stdout
    assert "all whole" in confirmed.bambo("check", "results/small").stdout


def test_trackers_that_fail_stop_nothing(confirmed: Workflow) -> None:
    (confirmed.folder / "no-folder").write_text("")
    config = confirmed.config
    config["tracking"] = {"mlflow": "mlruns", "tensorboard": "no-folder"}
    confirmed.write(config)
    confirmed.succeed()
    assert (confirmed.folder / "mlruns/mlflow.db").exists()
    assert "warning: tracking.tensorboard: " in (confirmed.results / "logs/track.log").read_text()
    assert "Nothing to be done" in confirmed.succeed("--dry-run")


def test_a_search_that_goes_on_measures_nothing_again_unasked(confirmed: Workflow) -> None:
    before = confirmed.scores()
    config = confirmed.config
    config["searches"]["blocks"]["iterations"] = 3
    confirmed.write(config)
    confirmed.succeed()
    assert len(confirmed.scores()) == len(before) + 2
    assert "The same models on fresh answers" in (confirmed.results / "report.html").read_text()
    assert "confirm_candidates" in confirmed.succeed("confirm", "--dry-run")
    # Other settings are another choice.
    config["confirm"]["members"] = 1
    confirmed.write(config)
    confirmed.succeed("confirm")
    assert len(pd.read_csv(confirmed.results / "tables/confirmed.csv")) == 3
    assert {id: before[id] for id in before} == {id: confirmed.scores()[id] for id in before}


def test_questions_of_the_search_are_refused_before_anything_runs(tmp_path: Path) -> None:
    config = small_config()
    config["confirm"]["data"]["tiny_aime"] = config["evaluation"]["tasks"]["tiny_aime"]["data"]
    done = Workflow(tmp_path, config).run("confirm")
    assert done.returncode != 0
    assert "error: confirm.data.tiny_aime: row 1 of" in done.stdout + done.stderr
    assert not (tmp_path / "results/small/sources").exists()
