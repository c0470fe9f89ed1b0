"""A whole run: what it leaves, and that a second start does only what is missing."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from runs import Workflow, small_config


@pytest.fixture
def copy(finished: Workflow, tmp_path: Path) -> Workflow:
    """The finished run in a folder of its own, with every time stamp kept."""
    shutil.copytree(finished.folder, tmp_path / "copy", copy_function=shutil.copy2)
    return Workflow(tmp_path / "copy", small_config())


def test_leaves_tables_figures_and_a_summary(finished: Workflow) -> None:
    observations = pd.read_parquet(finished.results / "tables/observations.parquet")
    counts = observations["search"].value_counts()
    assert counts.to_dict() == {"blocks": 8, "single": 2, "reference": 4}
    assert (observations["status"] == "ok").all()
    names = ["partition", "objectives", "progress", "weights"]
    assert all((finished.results / "figures" / f"{name}.svg").stat().st_size > 0 for name in names)
    for name in ("README.md", "report.html", "front.html"):
        assert "instruct" in (finished.results / name).read_text(encoding="utf-8")
    assert {path.name for path in finished.results.glob("answers/*.js")}
    assert "Pareto front" in finished.output
    assert "best single-weight grid" in finished.output


def test_candidates_are_scored_once_and_leave_no_model(finished: Workflow) -> None:
    folders = list((finished.results / "candidates").iterdir())
    # 8 + 2 proposals, of which two are the end points, and one source under its own files.
    assert len(folders) == 11
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {
            "recipe.json",
            "merged",
            "scores.json",
            "samples.parquet",
            "lm_eval",
        }
        scores = json.loads((folder / "scores.json").read_text())
        samples = pd.read_parquet(folder / "samples.parquet")
        for name, benchmark in scores["benchmarks"].items():
            rows = samples[samples["benchmark"] == name]
            assert benchmark["tokens"] == pytest.approx(rows["output_tokens"].mean())
            assert benchmark["accuracy"] == pytest.approx(rows["correct"].mean())


def test_proposals_say_what_they_saw(finished: Workflow) -> None:
    proposals = [
        json.loads((finished.results / f"search/blocks/proposals/t{t:03d}.json").read_text())
        for t in range(3)
    ]
    asked = [id for proposal in proposals for id in proposal["candidates"]]
    assert len(set(asked)) == 8
    assert proposals[2]["observed"] == asked[:6]
    assert proposals[0]["surrogate"] is None
    assert set(proposals[2]["surrogate"]) == {"reasoning", "efficiency"}
    assert proposals[0]["origin"][:3] == ["all-0", "all-1", "balanced"]


def test_nothing_is_left_to_do(finished: Workflow) -> None:
    assert "Nothing to be done" in finished.succeed("--dry-run")


def test_snakemakes_own_report_has_captions(finished: Workflow, tmp_path: Path) -> None:
    finished.succeed("--report", str(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for word in ("Figures", "Pages", "Tables", "small", "where a line is flat"):
        assert word in text


def test_settings_that_change_no_result_plan_nothing(copy: Workflow) -> None:
    config = small_config()
    config["evaluation"] |= {"batch_size": 16, "threads": 2}
    config["resources"]["evaluate"]["mem_mb"] = 4000
    copy.write(config)
    assert "Nothing to be done" in copy.succeed("--dry-run")


def test_another_selection_makes_the_tables_anew_and_back_again(copy: Workflow) -> None:
    table = copy.results / "tables/selection.csv"
    scores, before = copy.scores(), table.read_bytes()
    copy.write(small_config(selection={"divisions": 2, "nearest": 1}))
    copy.succeed()
    assert table.read_bytes() != before
    copy.write(small_config())
    copy.succeed()
    assert table.read_bytes() == before
    assert copy.scores() == scores


def test_touched_and_forced_runs_evaluate_nothing_again(copy: Workflow) -> None:
    before = copy.scores()
    front = (copy.results / "tables/pareto.csv").read_bytes()
    for recipe in copy.results.glob("candidates/*/recipe.json"):
        recipe.touch()
    copy.succeed("--forceall")
    assert copy.scores() == before
    assert (copy.results / "tables/pareto.csv").read_bytes() == front
    assert not list(copy.results.glob("candidates/*/model"))


def test_a_larger_budget_does_just_the_new_work(copy: Workflow) -> None:
    before = copy.scores()
    proposals = {path.name: path.read_bytes() for path in copy.results.glob("search/blocks/proposals/*.json")}
    config = small_config()
    config["searches"]["blocks"]["iterations"] = 3
    copy.write(config)
    copy.succeed()
    after = copy.scores()
    assert after.items() >= before.items()
    assert len(after) == len(before) + 2
    for name, content in proposals.items():
        assert (copy.results / "search/blocks/proposals" / name).read_bytes() == content
    observations = pd.read_csv(copy.results / "tables/observations.csv")
    assert (observations["search"] == "blocks").sum() == 10


def test_export_writes_models_that_generate(copy: Workflow) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    copy.succeed("export")
    index = json.loads((copy.results / "models/index.json").read_text())
    assert len(index) == 2
    for entry in index:
        folder = copy.folder / entry["path"]
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        prompt = tokenizer("Start 3: a+2 = ?", return_tensors="pt")
        assert model.generate(**prompt, max_new_tokens=2).shape[1] > prompt["input_ids"].shape[1]
        recipe = json.loads((folder / "recipe.json").read_text())
        assert recipe["id"] == entry["candidate"]
        assert (folder / "mergekit_config.yml").exists()
    assert "Nothing to be done" in copy.succeed("export", "--dry-run")

    # By name, and one that there is none of.
    chosen = [index[1]["candidate"], "preference-0-2"]
    copy.write(small_config(selection={"export": chosen}))
    done = copy.run("export")
    assert done.returncode != 0
    assert "selection.export: found preference-0-2, expected a name" in done.stdout + done.stderr
    copy.write(small_config(selection={"export": chosen[:1]}))
    copy.succeed("export")
    assert [each["name"] for each in json.loads((copy.results / "models/index.json").read_text())] == [
        index[1]["name"]
    ]
