import copy
import json
import math

import pytest
from bambo.errors import BadInput
from bambo.recipe import candidate_id, make_recipe, read_recipe, write_recipe
from hypothesis import given
from hypothesis import strategies as st

SOURCES = {
    "thinking": {"path": "models/thinking", "fingerprint": "aa", "sample": "11"},
    "instruct": {"path": "models/instruct", "fingerprint": "bb", "sample": "22"},
}
EVALUATION = {
    "seed": 0,
    "repeats": 1,
    "tasks": {"quiz": {"task": "aime25", "data": "quiz.jsonl", "data_hash": "cc"}},
}


def recipe(weights=None, sources=SOURCES, files_from="instruct", evaluation=EVALUATION, **options):
    return make_recipe(weights or {"layers.0": [0.25, 0.75]}, sources, files_from, evaluation, **options)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_rounded_weights_still_add_up(first):
    scale = max(1, sum(first))
    weights = [value / scale for value in first]
    names = [str(i) for i in range(len(weights) + 1)]
    made = recipe({"head": [*weights, 1 - sum(weights)]}, dict.fromkeys(names, SOURCES["thinking"]), names[0])
    (rounded,) = made["weights"].values()
    assert math.fsum(rounded) == pytest.approx(1, abs=1e-12)
    assert rounded == [round(value, 6) for value in rounded]
    assert all(abs(a - b) <= 0.5e-6 + 1e-12 for a, b in zip(rounded, weights, strict=False))
    assert "-0.0" not in json.dumps(rounded)


def test_weights_that_round_to_the_same_are_the_same_candidate():
    assert recipe({"head": [0.3, 0.7]}) == recipe({"head": [0.3 + 1e-9, 0.7 - 1e-9]})
    assert recipe({"head": [-1e-9, 1 + 1e-9]})["id"] == recipe({"head": [0, 1]})["id"]
    assert recipe({"head": [0.3, 0.7]})["id"] != recipe({"head": [0.300001, 0.699999]})["id"]


def changed(path, value):
    new = copy.deepcopy(recipe())
    *keys, last = path
    inner = new
    for key in keys:
        inner = inner[key]
    inner[last] = value
    return candidate_id(new)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sources", "thinking", "path"), "elsewhere"),
        (("sources", "thinking", "sample"), "33"),
        (("evaluation", "tasks", "quiz", "data"), "elsewhere.jsonl"),
        (("id",), "other"),
    ],
)
def test_id_ignores_where_things_lie(path, value):
    assert changed(path, value) == recipe()["id"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sources", "thinking", "fingerprint"), "dd"),
        (("method",), "slerp"),
        (("files_from",), "thinking"),
        (("weights", "layers.0"), [0.75, 0.25]),
        (("evaluation", "seed"), 1),
        (("evaluation", "tasks", "quiz", "data_hash"), "dd"),
        (("evaluation", "tasks", "quiz", "task"), "aime24"),
    ],
)
def test_id_sees_what_decides_the_score(path, value):
    assert changed(path, value) != recipe()["id"]


def test_id_sees_the_order_but_not_the_names_of_sources():
    swapped = recipe(sources=dict(reversed(SOURCES.items())))
    assert swapped["id"] != recipe()["id"]
    renamed = {"think": SOURCES["thinking"], "chat": SOURCES["instruct"]}
    assert recipe(sources=renamed, files_from="chat")["id"] == recipe()["id"]


def test_written_once(tmp_path):
    path = write_recipe(tmp_path, recipe())
    assert path == tmp_path / "candidates" / recipe()["id"] / "recipe.json"
    assert read_recipe(path) == recipe()
    assert list(read_recipe(path)["sources"]) == ["thinking", "instruct"]
    before = path.stat().st_mtime_ns
    moved = {name: {**source, "path": "elsewhere"} for name, source in SOURCES.items()}
    assert write_recipe(tmp_path, recipe(sources=moved)) == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"weights": {"head": [0.5, 0.4]}},
            r"weights of head are \[0\.5, 0\.4\], expected 2 numbers with sum 1",
        ),
        ({"weights": {"head": [1.0]}}, "expected 2 numbers"),
        ({"files_from": "base"}, "files_from is base, expected one of thinking, instruct"),
        ({"evaluation": None}, "no valid evaluation"),
        ({"sources": {"thinking": {"path": "a"}}}, "source thinking has no fingerprint"),
        ({"weights": {"layers.0": [0.5, 0.5]}}, "is not that of the contents"),
    ],
)
def test_damaged_recipes(tmp_path, change, message):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**recipe(), **change}))
    with pytest.raises(BadInput, match=message) as error:
        read_recipe(path)
    assert str(error.value).startswith(str(path))
    path.write_text("[]")
    with pytest.raises(BadInput, match="no valid method"):
        read_recipe(path)
