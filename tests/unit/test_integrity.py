"""Damage to a run's files: seen, and told with the command that repairs it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bambo.candidate.lease import hold
from bambo.endpoints import write_end_points
from bambo.errors import BadInput
from bambo.files import read_json, write_json
from bambo.integrity import as_snakemake, check_run, print_check, repair
from bambo.records import read_record, write_record
from bambo.run import Run
from bambo.space import expand
from demo_config import demo
from fake_run import GROUPS, VARIABLES, fail, fake_differences, measured_scores, write_scores

BLOCKS = VARIABLES["blocks"]
COMMAND = ["snakemake", "--configfile", "my config.yaml", "--cores", "2"]
REPAIR = "snakemake --configfile 'my config.yaml' --cores 2 --forcerun"


def point(weight: float, first: float) -> list[float]:
    return [first, *[weight] * (len(BLOCKS) - 1)]


PROPOSALS = {0: [point(0, 0), point(1, 1), point(0.5, 0.5)], 1: [point(0.25, 0.5), point(0.75, 0.25)]}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one search, 3 + 2 evaluations, whose files are all as the workflow writes them."""
    root = tmp_path_factory.mktemp("whole")
    folder = root / "results/whole"
    evaluation = {"engine": "hf", "tasks": {"tiny": {"data": "tiny.csv", "data_hash": "0"}}}
    run = Run(
        folder=folder,
        sources={
            name: {"path": name, "fingerprint": name, "sample": name} for name in ("thinking", "instruct")
        },
        groups=GROUPS,
        files_from="instruct",
        evaluation=evaluation,
        end_point_evaluation=evaluation,
    )
    for name, source in run.sources.items():
        write_json(folder / "sources" / f"{name}.json", source)
    write_json(folder / "search/blocks/variables.json", {"variables": BLOCKS})
    write_json(folder / "base.json", {"path": "models/base"})
    write_json(folder / "partition/blocks.json", {"searches": {"blocks": {"variables": BLOCKS}}})
    write_json(folder / "endpoints/candidates.json", write_end_points(run))
    write_json(folder / "endpoints/normalisation.json", {"objectives": {}})
    for iteration, points in PROPOSALS.items():
        proposal = {
            "search": "blocks",
            "iteration": iteration,
            "stop": None,
            "candidates": [run.add(run.recipe(expand(x, BLOCKS, {"method": "linear"}))) for x in points],
            "variables": points,
        }
        write_record(proposal_path(folder, iteration), "proposal", proposal)
    for path in (folder / "candidates").iterdir():
        write_scores(path, measured_scores(path.name, np.full(8, 0.5)))
    fake_differences().to_parquet(folder / "partition/differences.parquet")
    (folder / "tables").mkdir()
    pd.DataFrame({"search": ["blocks"]}).to_parquet(folder / "tables/observations.parquet")
    record = {"command": COMMAND, "started": "now", "parallel": 2, "bambo": "0", "config": demo()}
    write_json(folder / "run.json", record)
    return root


@pytest.fixture
def run(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, as a user names it in the folder of the workflow."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("results/whole")


def proposal_path(run: Path, iteration: int) -> Path:
    return run / f"search/blocks/proposals/t{iteration:03d}.json"


def candidate(run: Path, iteration: int, place: int) -> Path:
    """The folder of a proposed candidate."""
    return run / "candidates" / read_record(proposal_path(run, iteration), "proposal")["candidates"][place]


def problems(run: Path) -> list[str]:
    return [problem.text for problem in check_run(run).problems]


def command(run: Path) -> str:
    found = check_run(run)
    assert found.command is not None
    return repair(run, found.problems, found.command)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flips(path: Path, step: int, start: int = 0, end: int | None = None) -> Iterator[int]:
    """Flip a bit of every `step`-th byte in turn; the file is whole again afterwards."""
    whole = path.read_bytes()
    for place in range(start, len(whole) if end is None else end, step):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        yield place
    path.write_bytes(whole)


def test_a_whole_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_check(run)
    assert capsys.readouterr().out == "6 candidates, 2 proposals: all whole\n"


def test_a_run_that_has_only_begun(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match=r"results/none: no run\.json"):
        check_run(Path("results/none"))
    young = Path("results/young")
    young.mkdir()
    shutil.copy(run / "run.json", young)
    assert print_check(young)
    assert capsys.readouterr().out == "0 candidates, 0 proposals: all whole\n"


def newer(path: Path) -> None:
    path.write_text(path.read_text().replace('",', '9",', 1))


@pytest.mark.parametrize("damage", [truncate, newer, lambda path: path.write_text("")])
def test_damaged_scores_are_made_again(run: Path, damage: Callable[[Path], None]) -> None:
    path = candidate(run, 1, 0) / "scores.json"
    damage(path)
    [text] = problems(run)
    assert text.startswith(f"{path}: ")
    assert "bambo check" not in text
    assert command(run) == f"{REPAIR} {path}"


def test_every_byte_of_scores_counts(run: Path) -> None:
    path = candidate(run, 0, 2) / "scores.json"
    for place in flips(path, step=5):
        assert len(problems(run)) == 1, place
        assert command(run) == f"{REPAIR} {path}"
    assert not problems(run)


def test_scores_of_another_candidate(run: Path) -> None:
    one, other = candidate(run, 1, 0), candidate(run, 1, 1)
    shutil.copy(one / "scores.json", other)
    assert problems(run) == [
        f"{other}/scores.json: holds the scores of {one.name}, expected those of {other.name}"
    ]
    assert command(run) == f"{REPAIR} {other}/scores.json"


def test_failed_candidates_have_no_samples(run: Path) -> None:
    folder = candidate(run, 1, 0)
    fail(run, folder.name)
    (folder / "samples.parquet").unlink()
    assert not problems(run)


def test_every_byte_of_samples_counts(run: Path) -> None:
    folder = candidate(run, 1, 1)
    path = folder / "samples.parquet"
    for place in flips(path, step=41):
        [text] = problems(run)
        assert text.startswith(f"{path}: damaged"), place
        assert command(run) == f"{REPAIR} {folder}/scores.json"
    truncate(path)
    assert command(run) == f"{REPAIR} {folder}/scores.json"
    path.unlink()
    assert problems(run)[0].startswith(f"{path}: missing")
    assert command(run) == f"{REPAIR} {folder}/scores.json"


@pytest.mark.parametrize("damage", [truncate, newer, lambda path: path.write_text("[]")])
def test_damaged_proposals_are_made_again(run: Path, damage: Callable[[Path], None]) -> None:
    path = proposal_path(run, 0)
    damage(path)
    [text] = problems(run)
    assert text.startswith(f"{path}: ")
    assert command(run) == f"rm {path} && {REPAIR} {path}"


def test_every_byte_of_a_proposal_counts(run: Path) -> None:
    path = proposal_path(run, 1)
    for place in flips(path, step=5):
        assert len(problems(run)) == 1, place
        assert command(run) == f"rm {path} && {REPAIR} {path}"


def test_a_proposal_in_the_wrong_place(run: Path) -> None:
    path = proposal_path(run, 1)
    shutil.copy(proposal_path(run, 0), path)
    assert problems(run) == [f"{path}: holds t000 of search blocks, expected what its path says"]
    assert command(run) == f"rm {path} && {REPAIR} {path}"


def test_a_damaged_recipe_is_written_by_what_asked_for_it(run: Path) -> None:
    path = candidate(run, 1, 0) / "recipe.json"
    text = path.read_text()
    for damaged in [text[:-20], "", "[]", text.replace("linear", "lineal"), text.replace("0.5", "0.6", 1)]:
        path.write_text(damaged)
        [problem] = problems(run)
        assert problem.startswith(f"{path}: ")
        assert command(run) == f"rm {path} && {REPAIR} {proposal_path(run, 1)}"


def test_every_byte_of_the_weights_of_a_recipe_counts(run: Path) -> None:
    path = candidate(run, 1, 0) / "recipe.json"
    text = path.read_bytes()
    # Blanks may become others; where files lie is no part of the identity.
    for place in flips(path, step=1, start=text.index(b'"weights"'), end=text.index(b'"files_from"')):
        assert len(problems(run)) == 1 or not chr(text[place]).strip(), place


def test_values_of_the_wrong_type_in_a_recipe(run: Path) -> None:
    path = candidate(run, 1, 0) / "recipe.json"
    whole = read_json(path)
    for change in [
        {"weights": {"head": 3}},
        {"weights": {"head": "ab"}},
        {"evaluation": {"tasks": 3}},
        {"sources": {}},
    ]:
        write_json(path, {**whole, **change})
        assert len(problems(run)) == 1, change
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    [problem] = problems(run)
    assert problem.startswith(f"{path}: not valid JSON (")


def test_a_recipe_that_several_asked_for(run: Path) -> None:
    folder = candidate(run, 0, 1)
    assert folder.name in read_json(run / "endpoints/candidates.json")["end_points"].values()
    truncate(folder / "recipe.json")
    again = f"{run}/endpoints/candidates.json {proposal_path(run, 0)}"
    assert command(run) == f"rm {folder}/recipe.json && {REPAIR} {again}"


def test_a_recipe_of_another_candidate(run: Path) -> None:
    one, other = candidate(run, 1, 0), candidate(run, 1, 1)
    shutil.copy(one / "recipe.json", other)
    assert problems(run) == [
        f"{other}/recipe.json: is the recipe of {one.name}, expected that of {other.name}"
    ]


def test_a_missing_recipe(run: Path) -> None:
    path = candidate(run, 1, 0) / "recipe.json"
    path.unlink()
    assert problems(run) == [f"{path}: missing, {proposal_path(run, 1)} asks for it"]
    assert command(run) == f"{REPAIR} {proposal_path(run, 1)}"


def test_scores_wait_for_their_recipe(run: Path) -> None:
    # Snakemake refuses to make scores whose recipe is not there.
    folder = candidate(run, 1, 0)
    truncate(folder / "recipe.json")
    truncate(folder / "scores.json")
    assert len(problems(run)) == 2
    maker = proposal_path(run, 1)
    first = f"{REPAIR.removesuffix('--forcerun')}--until {maker} --forcerun {maker}"
    again = f"{first} && {REPAIR} {folder}/scores.json {maker}"
    assert command(run) == f"rm {folder}/recipe.json && {again}"
    (folder / "recipe.json").unlink()
    assert len(problems(run)) == 2
    assert command(run) == again
    # By a proposal that itself is made again.
    truncate(maker)
    assert len(problems(run)) == 3
    assert command(run) == f"rm {maker} && {again}"


def test_scores_that_were_there(run: Path) -> None:
    first, last = candidate(run, 0, 2) / "scores.json", candidate(run, 1, 0) / "scores.json"
    first.unlink()
    last.unlink()
    # The last iteration may not be evaluated yet.
    assert problems(run) == [f"{first}: missing, the search went on from it"]
    assert command(run) == f"{REPAIR} {first}"
    (run / "search/blocks/complete-0").touch()
    assert len(problems(run)) == 1
    (run / "search/blocks/complete-1").touch()
    assert len(problems(run)) == 2
    assert command(run) == f"{REPAIR} {' '.join(sorted(map(str, [first, last])))}"


def test_scores_of_end_points_are_there_once_they_are_the_scale(run: Path) -> None:
    for path in run.glob("search/blocks/proposals/*"):
        path.unlink()
    for path in run.glob("candidates/*/scores.json"):
        path.unlink()
    assert len(problems(run)) == 3
    (run / "endpoints/normalisation.json").unlink()
    assert not problems(run)


def test_a_damaged_recipe_that_nothing_asks_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run / "candidates/0123456789ab"
    folder.mkdir()
    (folder / "recipe.json").write_text("{}")
    assert command(run) == f"rm {folder}/recipe.json"


@pytest.mark.parametrize(
    "name",
    [
        "sources/thinking.json",
        "base.json",
        "endpoints/candidates.json",
        "endpoints/normalisation.json",
        "search/blocks/variables.json",
        "partition/blocks.json",
    ],
)
def test_damaged_json_of_a_rule(run: Path, name: str) -> None:
    path = run / name
    for damaged in [path.read_bytes()[:-20], b"", b"\xff\xfe{}"]:
        path.write_bytes(damaged)
        [text] = problems(run)
        assert text.startswith(f"{path}: ")
        # Some would stop the start of Snakemake.
        assert command(run) == f"rm {path} && {REPAIR} {path}"


@pytest.mark.parametrize("name", ["partition/differences.parquet", "tables/observations.parquet"])
def test_damaged_tables(run: Path, name: str) -> None:
    path = run / name
    for damaged in [path.read_bytes()[:-20], b"", path.read_bytes()[:100] + bytes(100)]:
        path.write_bytes(damaged)
        assert problems(run) == [f"{path}: damaged, not a whole parquet file"]
        assert command(run) == f"{REPAIR} {path}"


def test_damage_to_several_files_is_repaired_by_one_command(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, recipe = candidate(run, 0, 2) / "scores.json", candidate(run, 1, 0) / "recipe.json"
    truncate(scores)
    truncate(recipe)
    truncate(run / "partition/differences.parquet")
    assert not print_check(run)
    lines = capsys.readouterr().out.splitlines()
    assert "6 candidates, 2 proposals: 3 problems." in lines
    again = f"{scores} {run}/partition/differences.parquet {proposal_path(run, 1)}"
    assert lines[-1] == f"  rm {recipe} && {REPAIR} {again}"
    assert len([line for line in lines if "--forcerun" in line]) == 1


def test_a_damaged_run_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = candidate(run, 0, 2) / "scores.json"
    for damaged in [(run / "run.json").read_text()[:-20], "", "[]", "3", '{"command": []}']:
        (run / "run.json").write_text(damaged)
        assert not print_check(run)
        shown = capsys.readouterr().out
        assert shown.startswith(f"{run}/run.json: ")
        assert "the next start of the run writes it" in shown
        assert "--forcerun" not in shown
    truncate(scores)
    assert not print_check(run)
    shown = capsys.readouterr().out
    assert "`snakemake ...` stands for the command that started the run." in shown
    assert shown.endswith(f"  snakemake ... --forcerun {scores}\n")


def test_searches_that_left_the_config_are_passed_over(run: Path) -> None:
    shutil.copytree(run / "search/blocks", run / "search/gone")
    truncate(run / "search/gone/variables.json")
    truncate(run / "search/gone/proposals/t000.json")
    assert not problems(run)


def test_what_is_left_over_is_a_note(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = candidate(run, 1, 0)
    (folder / "model").mkdir()
    (folder / ".model.123.tmp").mkdir()
    with hold(folder):
        assert not check_run(run).notes
    assert print_check(run)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines[:2]] == [f"{folder}/model", f"{folder}/.model.123.tmp"]
    assert all(": left over" in line for line in lines[:2])
    assert lines[2:] == ["6 candidates, 2 proposals: all whole"]


def test_a_run_at_work(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = candidate(run, 1, 0)
    (folder / "model").mkdir()  # it waits for its evaluation
    with hold(run):
        assert print_check(run)
        assert "is at work on it" in capsys.readouterr().out
        assert not any("left over" in note for note in check_run(run).notes)
        # It is being evaluated again: new samples come before new scores.
        with hold(folder):
            (folder / "samples.parquet").write_bytes(b"new")
            assert not problems(run)
    assert len(problems(run)) == 1


def test_files_that_vanish_meanwhile(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bambo import integrity

    def vanished(path: Path, *_: Any) -> Any:
        path.unlink()
        raise BadInput(f"{path}: no such file")

    monkeypatch.setattr(integrity, "read_record", vanished)
    assert not problems(run)
    assert not list(run.glob("search/blocks/proposals/*"))


@pytest.mark.parametrize(
    "given", ["results/whole", "results/whole/", "./results/../results/whole", "absolute"]
)
def test_paths_are_as_snakemake_knows_them(run: Path, given: str) -> None:
    scores = candidate(run, 1, 0) / "scores.json"
    truncate(scores)
    named = Path.cwd() / run if given == "absolute" else Path(given)
    assert command(named) == f"{REPAIR} {scores}"
    assert as_snakemake(named, [named / "tables/pareto.csv"]) == [Path("results/whole/tables/pareto.csv")]


def test_the_run_named_from_within(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert as_snakemake(Path(), [Path("run.json")]) == [Path("results/whole/run.json")]
    assert not problems(Path())
    assert json.loads(Path("run.json").read_text())["command"] == COMMAND
