"""One candidate in the terminal."""

from pathlib import Path

import pytest
from bambo.errors import BadInput
from bambo.files import read_json, write_json
from bambo.recipe import candidate_id
from bambo.report import tables
from bambo.report.show import about, answers, find
from fake_run import VARIABLES, fail, fake_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run(tmp_path_factory.mktemp("run"))


def test_a_beginning_will_do_and_others_are_named(run: Path) -> None:
    id = tables.read_run(run, VARIABLES).proposals["blocks"][1]["candidates"][0]
    assert find(run, id).name == find(run, id[:10]).name == id
    with pytest.raises(BadInput, match=f"0 candidates begin with {id}0, expected one; most alike: {id}"):
        find(run, f"{id}0")
    with pytest.raises(BadInput, match="candidates begin with , expected one"):
        find(run, "")
    with pytest.raises(BadInput, match="no candidates"):
        find(run / "candidates", id)


def test_scores_and_weights(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    proposal = tables.read_run(run, VARIABLES).proposals["blocks"][1]
    folders = [run / "candidates" / id for id in proposal["candidates"][:2]]
    for folder in folders:
        recipe = read_json(folder / "recipe.json")
        recipe["sources"] = {
            name: {"path": name, "fingerprint": name, "sample": name} for name in recipe["sources"]
        }
        write_json(folder / "recipe.json", {**recipe, "id": candidate_id(recipe)})
    text = list(about(folders[0]))
    assert text[0] == f"{folders[0].name}: linear of thinking, instruct, files from instruct"
    assert text[1].startswith("  tiny_gpqa: accuracy 0.")
    assert "150 questions x 1" in text[1]
    first, others = proposal["variables"][0][0], proposal["variables"][0][1]
    assert f"    {'embeddings':26} {first:.3f}  {1 - first:.3f}" in text
    assert f"    {'layers.0 to layers.1':26} {others:.3f}  {1 - others:.3f}" in text
    fail(run, folders[1].name)
    assert "  failed: out of memory: out of memory" in list(about(folders[1]))


def test_answers_to_a_question_beside_those_of_the_sources(run: Path) -> None:
    id = tables.read_run(run, VARIABLES).proposals["blocks"][1]["candidates"][0]
    text = list(answers(run, run / "candidates" / id, 0, None))
    heads = [line for line in text if line.startswith("---")]
    assert [head.split(",")[1].split()[0] for head in heads] == [id, "thinking", "instruct"]
    assert heads[0] == (f"--- tiny_gpqa 0, {id}, answer 1: right (expected (A)), 9 tokens, ended by eos ---")
    assert text.count("\\boxed{A}") == 3
    with pytest.raises(BadInput, match="found 7, expected a question of tiny_gpqa 0 to 0"):
        list(answers(run, run / "candidates" / id, 7, None))
    with pytest.raises(BadInput, match="found gsm8k, expected one of tiny_gpqa"):
        list(answers(run, run / "candidates" / id, 0, "gsm8k"))
