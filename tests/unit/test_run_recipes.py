"""Recipes of a run: one model is one candidate, whatever it was asked for as."""

from pathlib import Path
from typing import Any

import pytest
from bambo.config import load
from bambo.errors import BadInput
from bambo.files import write_json
from bambo.methods import METHODS
from bambo.run import Merge, Run, simplest
from demo_config import ROOT, demo

GROUPS = ["embeddings", "layers.0", "head"]
MIXED = [[0.3, 0.7], [1.0, 0.0], [0.0, 1.0]]
PLAIN = ["linear", "slerp", "task_arithmetic"]


def record(name: str) -> dict[str, str]:
    return {"path": name, "fingerprint": name, "sample": name}


def make_run(base: str | None = None, names: tuple[str, ...] = ("a", "b"), **options: Any) -> Run:
    return Run(
        folder=Path("nowhere"),
        sources={name: record(name) for name in names},
        groups=GROUPS,
        files_from=names[0],
        evaluation={"repeats": 1, "tasks": {}},
        end_point_evaluation={"repeats": 4, "tasks": {}},
        base=None if base is None else record(base),
        **options,
    )


def merge(method: str, weights: Any, **parameters: float) -> Merge:
    """A merge with these weights, one row a group or one for all; parameters that are not given are defaults."""
    rows = weights if isinstance(weights[0], list) else [weights] * len(GROUPS)
    values = {**METHODS[method].parameters, **parameters}
    everywhere = {name: dict.fromkeys(GROUPS, value) for name, value in values.items()}
    return Merge(dict(zip(GROUPS, rows, strict=True)), method, everywhere)


@pytest.mark.parametrize("base", [None, "c"])
def test_task_arithmetic_is_linear_whatever_the_base(base: str | None) -> None:
    run = make_run(base)
    recipe = run.recipe(merge("task_arithmetic", MIXED))
    assert recipe == run.recipe(merge("linear", MIXED))
    assert (recipe["method"], "base" in recipe, "parameters" in recipe) == ("linear", False, False)
    assert run.recipe(merge("task_arithmetic", MIXED, **{"lambda": 0.9}))["method"] == "task_arithmetic"
    halved = merge("task_arithmetic", MIXED).parameters["lambda"] | {"head": 0.5}
    other = Merge(merge("linear", MIXED).weights, "task_arithmetic", {"lambda": halved})
    assert run.recipe(other)["method"] == "task_arithmetic"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("base", [None, "c", "a", "b"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_all_weight_on_one_source(method: str, base: str | None, name: str) -> None:
    run = make_run(base)
    recipe = run.recipe(merge(method, [float(name == each) for each in run.sources]))
    is_base = name == (base or "b")
    if method in PLAIN or is_base:
        assert recipe == run.source_recipe(name)
        assert recipe["evaluation"]["repeats"] == 4
    else:
        assert recipe["method"] == method
        assert recipe["evaluation"]["repeats"] == 1


@pytest.mark.parametrize("method", METHODS)
def test_other_weights_keep_their_method(method: str) -> None:
    made = merge(method, MIXED)
    assert simplest(made, None) == (Merge(made.weights) if method == "task_arithmetic" else made)


def test_what_a_recipe_says_of_its_method() -> None:
    run = make_run("c", seed=7, vocabulary="match")
    recipe = run.recipe(merge("dare_ties", [0.5, 0.5], density=0.3))
    assert recipe["base"]["fingerprint"] == "c"
    assert recipe["parameters"] == {
        "density": dict.fromkeys(GROUPS, 0.3),
        "lambda": dict.fromkeys(GROUPS, 1.0),
    }
    assert recipe["options"] == {"seed": 7, "vocabulary": "match"}
    made = merge("della", [0.5, 0.5])
    as_mergekit = Merge(made.weights, made.method, made.parameters, "l1")
    assert run.recipe(as_mergekit)["options"] == {"seed": 7, "rescale": "l1", "vocabulary": "match"}
    assert run.recipe(merge("ties", [0.5, 0.5]))["options"] == {"vocabulary": "match"}
    assert "options" not in make_run("c", seed=7).recipe(merge("linear", [0.5, 0.5]))
    assert run.recipe(merge("slerp", [0.5, 0.5])).keys() >= {"options"}
    assert "base" not in run.recipe(merge("slerp", [0.5, 0.5]))


def test_candidates_follow_what_decides_them() -> None:
    made = merge("dare_ties", [0.5, 0.5])
    ids = [
        make_run("c").recipe(made)["id"],
        make_run("c", seed=1).recipe(made)["id"],
        make_run("d").recipe(made)["id"],
        make_run().recipe(made)["id"],
        make_run("c").recipe(merge("dare_ties", [0.5, 0.5], density=0.4))["id"],
        make_run("c").recipe(Merge(made.weights, made.method, made.parameters, "l1"))["id"],
    ]
    assert len(set(ids)) == len(ids)


def test_three_sources() -> None:
    run = make_run(names=("a", "b", "c"))
    assert run.source_recipe("b")["weights"]["head"] == [0, 1, 0]
    third = run.everywhere([1 / 3] * 3)
    weights = run.recipe(third)["weights"]["head"]
    assert weights == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert sum(weights) == 1


# From files


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, records: dict[str, str], **changes: Any) -> Run:
    """The run of the demo's config, changed; records: name -> fingerprint, "base" for the base."""
    monkeypatch.chdir(ROOT)
    config = load(demo(**changes))
    monkeypatch.chdir(folder)
    for task in config.evaluation.tasks.values():
        path = folder / str(task.data)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / str(task.data)).read_bytes())
    for name, fingerprint in records.items():
        path = config.folder / ("base.json" if name == "base" else f"sources/{name}.json")
        write_json(path, {**record(name), "fingerprint": fingerprint, "groups": GROUPS, "dtype": "BF16"})
    return Run.open(config)


TIES = {"searches": {"a": {"method": "dare_ties"}}, "base": {"model": "resources/models/base"}}


def test_the_base_is_read_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = {"thinking": "1", "instruct": "2"}
    assert opened(tmp_path, monkeypatch, records, base=TIES["base"]).base is None
    run = opened(tmp_path, monkeypatch, {**records, "base": "3"}, **TIES, merge={"seed": 5})
    assert run.base == {"path": "base", "fingerprint": "3", "sample": "base"}
    assert run.seed == 5


def test_a_base_that_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = {"thinking": "1", "instruct": "2", "base": "2"}
    with pytest.raises(BadInput, match=r"base\.model: its files are those of sources\.instruct; name"):
        opened(tmp_path, monkeypatch, records, **TIES)
    said = TIES | {"base": {"model": "resources/models/instruct"}}
    # The last source is the base anyway: its candidates are those of a run without one.
    assert opened(tmp_path, monkeypatch, records, **said).base is None
    said["base"] = {"model": "resources/models/thinking"}
    run = opened(tmp_path, monkeypatch, {**records, "base": "1"}, **said)
    assert (run.base or {})["fingerprint"] == "1"
    assert run.base_source == 0


def test_an_adapter_is_part_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(tmp_path, monkeypatch, {"thinking": "1", "instruct": "2"})
    write_json(
        tmp_path / "results/demo/sources/thinking.json",
        {**record("thinking"), "adapter": "somewhere", "groups": GROUPS},
    )
    monkeypatch.chdir(ROOT)
    config = load(demo())
    monkeypatch.chdir(tmp_path)
    assert Run.open(config).sources["thinking"] == {**record("thinking"), "adapter": "somewhere"}
    assert run.sources["instruct"] == {**record("instruct"), "fingerprint": "2"}
