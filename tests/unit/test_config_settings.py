"""Settings of a search, and what decides a candidate's scores and a search's proposals."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from bambo.config import (
    changed_keys,
    check_unchanged,
    deciding,
    evaluation_identity,
    iterations,
    load,
    run_settings,
    search_settings,
    settings_hash,
)
from bambo.config.searches import Search
from bambo.errors import BadInput
from bambo.evaluation.tasks import READING, task_hash
from bambo.files import file_hash
from bambo.methods import PARAMETERS
from bambo.search.presets import PRESETS
from demo_config import DEMO, DRAWN, ROOT, demo
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the demo are relative to the repository."""
    monkeypatch.chdir(ROOT)


# Searches


def test_presets_and_settings_have_the_same_keys() -> None:
    fields = [field.alias or key for key, field in Search.model_fields.items()]
    fields = [key for key in fields if key not in ("preset", "seeds")]
    assert set(get_args(Search.model_fields["preset"].annotation)) == set(PRESETS)
    for preset in PRESETS.values():
        assert list(preset) == fields


@pytest.mark.parametrize("name", PRESETS)
def test_settings_are_the_presets_with_the_given_keys_on_top(name: str) -> None:
    common = {"preset": name, "method": "linear", "sparsity": False}
    searches = {"a": common, "b": {**common, "seed": 7, "kernel": "matern52"}}
    config = load(demo(searches=searches, importance={"activations": 0}))
    a, b = search_settings(config, "a"), search_settings(config, "b")
    decided = {"n_blocks", "strategy"}  # by `blocks`
    unused = {"without_base", "rescale", *PARAMETERS}  # by linear
    expected = PRESETS[name] | {"method": "linear", "sparsity": False}
    assert {key: a[key] for key in a if key not in decided} == {
        key: value for key, value in expected.items() if key not in decided | unused
    }
    assert b == a | {"seed": 7, "kernel": "matern52"}


def test_parameters_of_a_preset_go_with_its_method() -> None:
    searches = {"a": {"preset": "cma-es"}, "b": {"preset": "cma-es", "method": "ties"}}
    config = load(demo(searches=searches, base={"model": "resources/models/base"}))
    assert search_settings(config, "a")["density"] == {"min": 0.001, "max": 0.999}
    assert search_settings(config, "b")["density"] == 0.2


def test_the_default_preset() -> None:
    config = load(demo(searches={"a": {}, "b": {"preset": "bambo-robust"}}))
    assert search_settings(config, "a") == search_settings(config, "b")


@pytest.mark.parametrize(
    ("search", "cut"),
    [
        ({}, ("hybrid", 6)),
        ({"n_blocks": 3, "strategy": "uniform"}, ("uniform", 3)),
        ({"granularity": "layer"}, ("layer", None)),
        ({"strategy": "layer"}, ("layer", None)),
        ({"preset": "model-grid"}, ("model", None)),
    ],
)
def test_how_a_search_cuts_the_layers(search: dict[str, Any], cut: tuple[str, int | None]) -> None:
    settings = search_settings(load(demo(searches={"a": search})), "a")
    assert (settings["strategy"], settings["n_blocks"]) == cut


def test_only_one_kind_of_initial_design_is_filled() -> None:
    weights = [0.0, 0.5, 1.0]
    config = load(demo(searches={"a": {"preset": "model-grid", "weights": weights}}))
    assert (search_settings(config, "a")["n_initial"], search_settings(config, "a")["weights"]) == (
        3,
        weights,
    )
    config = load(demo(searches={"a": {"preset": "model-grid", "initial": "warm-start"}}))
    assert search_settings(config, "a")["weights"] is None


@given(
    n_initial=st.integers(3, 20), batch=st.integers(1, 8), asked=st.integers(0, 12), extra=st.integers(0, 60)
)
def test_iterations_are_the_batches_that_the_budget_has_room_for(
    n_initial: int, batch: int, asked: int, extra: int
) -> None:
    budget = n_initial + batch + extra
    search = {"n_initial": n_initial, "batch_size": batch, "iterations": asked, "evaluations": budget}
    count, done = 0, n_initial
    while count < asked and done < budget:
        count, done = count + 1, min(done + batch, budget)
    assert iterations(load(demo(searches={"a": search})), "a") == count
    assert iterations(load(demo(searches={"a": search | {"evaluations": None}})), "a") == asked


# What decides what


def test_evaluation_of_a_recipe() -> None:
    tasks = DEMO["evaluation"]["tasks"]
    identity = evaluation_identity(load(DEMO), end_point=False)
    assert identity == {
        "engine": "hf",
        "dtype": "float32",
        "seed": 0,
        "repeats": 1,
        "limit": None,
        "sampling": {"do_sample": False},
        "tasks": {
            name: {
                **{**task, "scoring": "boxed", "max_tokens": 160},
                "data_hash": file_hash(Path(task["data"])),
                "task_hash": task_hash(name, task["task"]),
                "reading": READING,
            }
            for name, task in tasks.items()
        },
    }
    assert evaluation_identity(load(DEMO), end_point=True) == identity


def test_end_points_are_repeated_more_often_where_answers_are_drawn() -> None:
    config = load(
        demo(evaluation__sampling=DRAWN, evaluation__repeats=2, evaluation__tasks__tiny_aime__repeats=3)
    )
    for end_point, factor in [(False, 1), (True, 4)]:
        identity = evaluation_identity(config, end_point)
        assert identity["repeats"] == 2 * factor
        assert "repeats" not in identity["tasks"]["tiny_gpqa"]
        assert identity["tasks"]["tiny_aime"]["repeats"] == 3 * factor
        assert identity["sampling"] == DRAWN


def test_a_task_overrides_the_limits_of_all() -> None:
    config = load(demo(evaluation__tasks__tiny_aime__max_tokens=20, evaluation__tasks__tiny_aime__limit=7))
    tasks = evaluation_identity(config, end_point=False)["tasks"]
    assert (tasks["tiny_aime"]["max_tokens"], tasks["tiny_aime"]["limit"]) == (20, 7)
    assert tasks["tiny_gpqa"]["max_tokens"] == 160
    assert "limit" not in tasks["tiny_gpqa"]


@pytest.mark.parametrize(
    "change", [{"device": "cuda"}, {"batch_size": 1}, {"threads": 2}, {"python": "/usr/bin/python3"}]
)
def test_how_and_where_it_is_computed_is_no_identity(change: dict[str, Any]) -> None:
    changed = demo()
    changed["evaluation"] |= change
    for end_point in (False, True):
        assert evaluation_identity(load(changed), end_point) == evaluation_identity(load(DEMO), end_point)


FREE = [
    ("searches__blocks__iterations", 3),
    ("searches__blocks__evaluations", 30),
    ("searches__blocks__stop", {"growth": 0.01, "iterations": 3}),
    ("searches__single__seed", 1),
    ("searches__more", {}),
    ("selection__front", "observed"),
    ("resources__merge__mem_mb", 5),
    ("evaluation__batch_size", 5),
    ("evaluation__end_point_repeats", 2),  # nothing is drawn
    ("run", "other"),
]
BOUND = [
    ("searches__blocks__seed", 1, ["searches.blocks.seed"]),
    ("searches__blocks__batch_size", 2, ["searches.blocks.batch_size"]),
    ("searches__blocks__preset", "bambo", None),
    ("blocks__n_blocks", 4, ["searches.blocks.n_blocks"]),
    ("blocks__norm", 1, ["blocks.norm"]),
    ("files_from", "thinking", ["files_from"]),
    ("sources__thinking__model", "resources/models/base", ["sources.thinking.model"]),
    ("reference_point", [0, 0], ["reference_point"]),
    ("evaluation__limit", 5, ["evaluation.limit"]),
    ("evaluation__dtype", "bfloat16", ["evaluation.dtype"]),
    (
        "evaluation__max_tokens",
        9,
        ["evaluation.tasks.tiny_gpqa.max_tokens", "evaluation.tasks.tiny_aime.max_tokens"],
    ),
    ("objectives__reasoning__benchmarks", ["tiny_aime"], ["objectives.reasoning.benchmarks"]),
]


@pytest.mark.parametrize(("key", "value"), FREE)
def test_what_may_change_within_a_run(key: str, value: Any) -> None:
    old, new = deciding(load(DEMO), "blocks"), deciding(load(demo(**{key: value})), "blocks")
    assert settings_hash(old) == settings_hash(new)
    check_unchanged("searches.blocks", old, new)


@pytest.mark.parametrize(("key", "value", "changed"), BOUND)
def test_what_decides_a_searchs_proposals(key: str, value: Any, changed: list[str] | None) -> None:
    old, new = deciding(load(DEMO), "blocks"), deciding(load(demo(**{key: value})), "blocks")
    assert settings_hash(old) != settings_hash(new)
    assert changed is None or changed_keys(old, new) == changed


def test_prices_and_the_use_of_the_machine_decide_where_they_are_measured() -> None:
    changes = {"evaluation__batch_size": 7, "evaluation__prices": {"gpu_hour": 2.0}}

    def changed(metric: str, **prices: float) -> list[str]:
        old = demo(objectives__efficiency__metric=metric, evaluation__prices=prices)
        new = demo(objectives__efficiency__metric=metric, **changes)
        return changed_keys(deciding(load(old), "blocks"), deciding(load(new), "blocks"))

    assert changed("tokens") == changed("flops") == []
    assert changed("latency") == changed("throughput") == ["evaluation.batch_size"]
    prices = ["evaluation.prices.gpu_hour", "evaluation.prices.output_tokens"]
    assert [key for key in changed("cost", output_tokens=1.0) if "prices" in key] == prices
    assert "evaluation.batch_size" in changed("cost", gpu_hour=1.0)


def test_the_order_of_the_sources_and_objectives_decides() -> None:
    for section in ("sources", "objectives"):
        turned = demo(**{section: dict(reversed(DEMO[section].items()))})
        assert changed_keys(deciding(load(DEMO), "blocks"), deciding(load(turned), "blocks")) == [section]


def test_the_reference_point_decides_only_where_the_acquisition_uses_it() -> None:
    paper = {"searches": {"a": {"preset": "bambo"}}}
    old, new = load(demo(**paper)), load(demo(**paper, reference_point=[0, 0]))
    assert deciding(old, "a") == deciding(new, "a")


def test_end_point_repeats_decide_where_answers_are_drawn() -> None:
    old = load(demo(evaluation__sampling=DRAWN))
    new = load(demo(evaluation__sampling=DRAWN, evaluation__end_point_repeats=2))
    assert changed_keys(run_settings(old), run_settings(new)) == ["evaluation.end_point_repeats"]


def test_a_benchmark_stands_for_its_contents(tmp_path: Path) -> None:
    data = Path(DEMO["evaluation"]["tasks"]["tiny_aime"]["data"])
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(data.read_bytes())
    config = load(demo(evaluation__tasks__tiny_aime__data=str(moved)))
    assert run_settings(config) == run_settings(load(DEMO))
    moved.write_bytes(data.read_bytes() + b"\n")
    assert changed_keys(run_settings(load(DEMO)), run_settings(config)) == [
        "evaluation.tasks.tiny_aime.data_hash"
    ]


def test_a_task_file_of_ones_own_stands_for_its_contents(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("task: own")
    config = load(demo(evaluation__tasks__tiny_aime__task=str(own)))
    old = run_settings(config)
    task = evaluation_identity(config, end_point=False)["tasks"]["tiny_aime"]
    assert task["task_hash"] == task_hash("tiny_aime", str(own))
    own.write_text("task: changed")
    assert changed_keys(old, run_settings(config)) == ["evaluation.tasks.tiny_aime.task_hash"]


def test_settings_survive_a_file() -> None:
    for search in DEMO["searches"]:
        settings = deciding(load(DEMO), search)
        assert json.loads(json.dumps(settings)) == settings


def test_changed_settings_are_named_with_their_values() -> None:
    old = {"searches.blocks.seed": 0, "gone": "x", "same": None}
    new = {"new": [1], "searches.blocks.seed": 1, "same": None}
    assert changed_keys(old, new) == ["new", "searches.blocks.seed", "gone"]
    with pytest.raises(BadInput) as caught:
        check_unchanged("searches.blocks", old, new)
    assert str(caught.value) == (
        "searches.blocks: was started with other settings (new: not there -> [1]; "
        'searches.blocks.seed: 0 -> 1; gone: "x" -> not there); set them back, or give the run another name'
    )


SETTINGS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


@given(SETTINGS, SETTINGS)
def test_no_change_is_no_difference(old: dict[str, int], new: dict[str, int]) -> None:
    assert set(changed_keys(old, new)) == {key for key, _ in old.items() ^ new.items()}
    assert (settings_hash(old) == settings_hash(new)) == (not changed_keys(old, new))
