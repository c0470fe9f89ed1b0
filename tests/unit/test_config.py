"""Reading a config: defaults, presets, what decides what, and one line for every mistake."""

import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bambo.config import (
    check_blocks,
    check_paths,
    check_writable,
    evaluation_identity,
    is_hub_id,
    load,
    nearest_folder,
    source_files,
)
from bambo.errors import BadInput
from demo_config import DEMO, REMOVED, ROOT, demo
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the demo are relative to the repository."""
    monkeypatch.chdir(ROOT)


THREE = {"sources__third": {"model": "resources/models/base"}, "searches__single": {}}
SPEED = {"metric": "latency", "expert": "instruct", "base": "thinking"}


def message(config: Any) -> str:
    with pytest.raises(BadInput) as caught:
        load(config)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert "pydantic" not in text
    return text


# Loading


def test_the_demo_loads_and_keeps_its_order() -> None:
    config = load(DEMO)
    assert config.run == "demo"
    assert list(config.sources) == ["thinking", "instruct"]
    assert config.searches["blocks"].iterations == 10
    check_paths(config)


def test_three_objectives_of_any_metric_and_limits_on_all_of_them() -> None:
    objectives = DEMO["objectives"] | {
        "speed": SPEED,
        "style": {"metric": "exact_match,none", "expert": "thinking", "base": "instruct", "direction": "min"},
    }
    limits = [
        "energy",
        "latency",
        "tiny_aime.flops",
        "exact_match,none",
        "tiny_gpqa.exact_match,none",
        "speed",
    ]
    config = load(
        demo(
            objectives=objectives,
            reference_point=REMOVED,
            selection__limits={key: {"max": 1.0} for key in limits},
        )
    )
    assert config.reference_point == [-0.1] * 4


def test_a_config_may_be_any_kind_of_dict() -> None:
    assert load(OrderedDict(DEMO)) == load(DEMO)


def test_loading_leaves_the_given_dict_alone() -> None:
    config = demo()
    load(config)
    assert config == DEMO


def test_what_is_omitted_has_its_default() -> None:
    config = load(
        demo(blocks=REMOVED, selection=REMOVED, resources=REMOVED, reference_point=REMOVED, base=REMOVED)
    )
    assert (config.blocks.n_blocks, config.blocks.strategy, config.blocks.norm) == (6, "hybrid", 2)
    assert config.selection.front == "posterior"
    assert config.resources.evaluate.gpu == 1
    assert (config.retries, config.on_failure) == (2, "stop")
    assert config.reference_point == [-0.1, -0.1]
    assert config.base is None


def test_a_retry_asks_for_more() -> None:
    job = load(demo(resources__evaluate={"mem_mb": 1000, "runtime": 7, "growth": 1.5})).resources.evaluate
    assert [job.grown("mem_mb", attempt) for attempt in (1, 2, 3)] == [1000, 1500, 2250]
    assert [job.grown("runtime", attempt) for attempt in (1, 2, 3)] == [7, 10, 16]
    fixed = load(demo(resources__evaluate={"mem_mb": 1000, "growth": 1})).resources.evaluate
    assert fixed.grown("mem_mb", 9) == 1000


def test_config_does_not_import_torch() -> None:
    # Snakemake reads the config in every job.
    code = "import sys, bambo.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Messages


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Unknown keys
        (
            {"searches__blocks__iterationz": 3},
            "searches.blocks.iterationz: unknown key, did you mean iterations?",
        ),
        ({"searchez": {}}, "searchez: unknown key, did you mean searches?"),
        (
            {"evaluation__tasks__tiny_aime__prompd": ""},
            "evaluation.tasks.tiny_aime.prompd: unknown key, did you mean",
        ),
        ({"resources__evaluate__gpus": 1}, "resources.evaluate.gpus: unknown key, did you mean gpu?"),
        ({"blocks__zzz": 1}, "blocks.zzz: unknown key, expected one of n_blocks, strategy, norm"),
        # Wrong types and values
        (
            {"searches__blocks__iterations": "ten"},
            'searches.blocks.iterations: found the text "ten", expected a whole number of at least 0',
        ),
        (
            {"searches__blocks__iterations": 2.5},
            "searches.blocks.iterations: found 2.5, expected a whole number",
        ),
        (
            {"searches__blocks__iterations": True},
            "searches.blocks.iterations: found true, expected a whole number",
        ),
        (
            {"searches__blocks__kernel": None},
            "searches.blocks.kernel: found null, expected one of rbf, matern52",
        ),
        ({"searches__blocks__kernel": "matern"}, "expected one of rbf, matern52; did you mean matern52?"),
        ({"searches__blocks__preset": "bambo-robus"}, "searches.blocks.preset: found"),
        ({"searches__blocks__preset": ["bambo"]}, "searches.blocks.preset: found"),
        (
            {"searches__blocks__fold": "yes"},
            'searches.blocks.fold: found the text "yes", expected true or false',
        ),
        (
            {"searches__blocks__batch_size": 0},
            "searches.blocks.batch_size: found 0, expected a whole number of at",
        ),
        ({"searches__blocks__seed": -1}, "searches.blocks.seed: found -1, expected a whole number from 0 to"),
        (
            {"searches__blocks__stop": {"growth": 0.1}},
            "searches.blocks.stop.iterations: missing, expected a whole",
        ),
        (
            {"searches__single__weights": [0.5, 1.5]},
            "searches.single.weights[1]: found 1.5, expected a number from",
        ),
        (
            {"searches__single__weights": []},
            "searches.single.weights: found [], expected null, a whole number of at least 1, or a list of at least",
        ),
        ({"searches__blocks": None}, "searches.blocks: found null, expected a table"),
        ({"searches": {}}, "searches: found a table of 0 entries, expected a table of at least 1 entry"),
        ({"blocks__n_blocks": 0}, "blocks.n_blocks: found 0, expected a whole number of at least 1"),
        ({"blocks__norm": 3}, "blocks.norm: found 3, expected a whole number from 1 to 2"),
        ({"blocks__strategy": "hybridd"}, "did you mean hybrid?"),
        (
            {"evaluation__tasks": {}},
            "evaluation.tasks: found a table of 0 entries, expected a table of at least 1",
        ),
        (
            {"evaluation__engine": "vlm"},
            'evaluation.engine: found the text "vlm", expected one of hf, continuous, vllm',
        ),
        (
            {"evaluation__device": ""},
            "evaluation.device: found empty text, expected one of auto, cpu, cuda",
        ),
        (
            {"evaluation__device": "cuda", "resources__evaluate__gpu": 0},
            "resources.evaluate.gpu: found 0, expected 1 or more with device: cuda; raise it",
        ),
        (
            {"resources__merge__growth": 0.5},
            "resources.merge.growth: found 0.5, expected a number of at least 1",
        ),
        ({"retries": -1}, "retries: found -1, expected a whole number of at least 0"),
        ({"on_failure": "ignore"}, 'on_failure: found the text "ignore", expected one of stop, continue'),
        (
            {"evaluation__sampling__top_p": 0},
            "evaluation.sampling.top_p: found 0, expected null or a number above 0",
        ),
        (
            {"reference_point": [0, 0, 0]},
            "reference_point: found 3 numbers, expected 2, one an objective",
        ),
        ({"reference_point": [0, float("nan")]}, "reference_point[1]: found NaN, expected a number"),
        ({"run": 1}, "run: found 1, expected text like"),
        (
            {"run": "../demo"},
            'run: found the text "../demo", expected text like `[A-Za-z0-9_][A-Za-z0-9._-]*`',
        ),
        ({"run": ".."}, "run: found"),
        (
            {"sources__my model": {"model": "x"}},
            'sources.my model: found the text "my model" as a name, expected',
        ),
        ({"searches__a.b": {}}, 'searches.a.b: found the text "a.b" as a name'),
        # Missing keys
        ({"run": REMOVED}, "run: missing, expected text like"),
        ({"files_from": REMOVED}, "files_from: missing"),
        ({"evaluation": REMOVED}, "evaluation: missing, expected a table"),
        ({"sources__thinking__model": REMOVED}, "sources.thinking.model: missing, expected text"),
        ({"evaluation__tasks__tiny_aime__task": REMOVED}, "evaluation.tasks.tiny_aime.task: missing"),
        # Sources and objectives
        (
            {"sources__instruct": REMOVED},
            "sources: found a table of 1 entry, expected a table of at least 2 entries",
        ),
        (
            {"sources__instruct__model": "resources/models/thinking"},
            "sources.instruct: found the model of sources.thinking again",
        ),
        (
            {"files_from": "instruc"},
            'files_from: found the text "instruc", which is no source, did you mean instruct?',
        ),
        ({"objectives__reasoning__expert": "base"}, "objectives.reasoning.expert: found"),
        ({"objectives__reasoning__base": "thinking"}, "objectives.reasoning.base: found"),
        ({"objectives__reasoning__benchmarks": ["tiny_gqa"]}, "objectives.reasoning.benchmarks[0]: found"),
        (
            {"objectives__reasoning": REMOVED},
            "objectives: found a table of 1 entry, expected a table of ",
        ),
        ({"objectives__reasoning__metric": 5}, "objectives.reasoning.metric: found"),
        # Names that the tables need themselves
        ({"searches__reference": {}}, "searches.reference: the tables have rows of this name"),
        (
            {
                "objectives": {
                    "tokens": DEMO["objectives"]["efficiency"],
                    "r": DEMO["objectives"]["reasoning"],
                }
            },
            "objectives.tokens: the tables have a column of this name",
        ),
        (
            {"objectives__latency": {"metric": "latency", "expert": "instruct", "base": "thinking"}},
            "objectives.latency: the tables have a column of this name",
        ),
        (
            {"objectives__em": {"metric": "em", "expert": "instruct", "base": "thinking"}},
            "objectives.em: the tables have a column of this name",
        ),
        # Metrics
        (
            {"objectives__efficiency": {**SPEED, "metric": "throughput", "benchmarks": ["tiny_aime"]}},
            "objectives.efficiency.benchmarks: of no use with metric: throughput",
        ),
        (
            {"objectives__efficiency__metric": "cost"},
            "evaluation.prices: missing, expected a price for metric: cost of objectives.efficiency",
        ),
        (
            {"objectives__efficiency__metric": "energy", "evaluation__device": "cpu"},
            "objectives.efficiency.metric: found energy, which only GPUs measure",
        ),
        ({"objectives__efficiency__direction": "less"}, "objectives.efficiency.direction: found"),
        (
            {"objectives": {**DEMO["objectives"], **dict.fromkeys("abc", SPEED)}},
            "objectives: found a table of 5 entries, expected a table of ",
        ),
        (
            {"objectives__third": SPEED},
            "reference_point: found 2 numbers, expected 3, one an objective",
        ),
        # Searches
        ({"searches__blocks__n_initial": 2}, "searches.blocks.n_initial: found 2, expected at least 3"),
        (
            {**THREE, "searches__blocks__n_initial": 3},
            "searches.blocks.n_initial: found 3, expected at least 4",
        ),
        ({"searches__blocks__weights": [0.5]}, "searches.blocks.weights: of no use with initial: warm-start"),
        (
            {"searches__blocks__raw_samples": 5},
            "searches.blocks.raw_samples: found 5, expected at least the 10",
        ),
        ({"searches__single__n_initial": 5}, "searches.single.n_initial: of no use with initial: grid"),
        ({"searches__single__weights": None}, "searches.single.weights: missing"),
        (
            {"searches__single__strategy": "hybrid"},
            "searches.single.strategy: of no use with granularity: model",
        ),
        ({"searches__single__n_blocks": 3}, "searches.single.n_blocks: of no use with granularity: model"),
        (
            {"searches__single__granularity": "block"},
            "searches.single.initial: found grid with granularity: block",
        ),
        ({"searches__blocks__evaluations": 7}, "searches.blocks.evaluations: found 7, expected at least 8"),
        (
            {"searches__blocks__evaluations": 10},
            "searches.blocks.batch_size: found 4, a batch larger than the budget: after the initial",
        ),
        # Sampling
        ({"evaluation__sampling": {"do_sample": True}}, "evaluation.sampling.temperature: missing"),
        (
            {"evaluation__sampling__top_k": 20},
            "evaluation.sampling.top_k: found 20, expected null since do_sample is",
        ),
        ({"evaluation__repeats": 4}, "evaluation.repeats: found 4, expected 1 since do_sample is false"),
        (
            {"evaluation__tasks__tiny_aime__repeats": 4},
            "evaluation.tasks.tiny_aime.repeats: found 4, expected 1",
        ),
        # Selection
        (
            {"selection__preferences": {"chat": [1, 2, 3]}},
            "selection.preferences.chat: found [1.0, 2.0, 3.0], expected 2 weights (reasoning, efficiency)",
        ),
        (
            {"selection__preferences": {"chat": [0, 0]}},
            "selection.preferences.chat: found [0.0, 0.0], expected 2 weights",
        ),
        (
            {"selection__limits": {"token": {"max": 5}}},
            "selection.limits.token: unknown metric, did you mean tokens?",
        ),
        (
            {"selection__limits": {"tiny_aime.throughput": {"max": 5}}},
            "selection.limits.tiny_aime.throughput: unknown metric",
        ),
        ({"selection__limits": {"tokens": {}}}, "selection.limits.tokens: found neither min nor max"),
        (
            {"selection__limits": {"tokens": {"min": 2, "max": 1}}},
            "selection.limits.tokens: found min 2 above max 1",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(changes: dict[str, Any], expected: str) -> None:
    assert expected in message(demo(**changes))


@pytest.mark.parametrize("nothing", [None, [], "run: demo"])
def test_a_config_that_is_no_table(nothing: Any) -> None:
    assert message(nothing).startswith("config: found")


def test_the_first_problem_in_the_order_of_the_config_is_named_and_the_others_are_counted() -> None:
    wrong = demo(evaluation__seed="a", sources__thinking__modelx="x", searches__single__prset="y")
    # `base` stands between sources and searches; a missing key comes last in its table.
    assert message(wrong) == "sources.thinking.modelx: unknown key, did you mean model? (and 2 more problems)"
    reordered = {key: wrong[key] for key in reversed(wrong)}
    assert message(reordered).startswith("evaluation.seed: ")
    assert "(and 1 more problem)" in message(demo(evaluation__seed="a", evaluation__limit=0))


def test_long_and_broken_values_stay_short_and_on_one_line() -> None:
    assert len(message(demo(blocks__strategy="line\n" * 1000))) < 300
    assert "\n" not in message(demo(**{"sources__a\nb": {"model": "x"}}))


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(table: dict[str, Any], prefix: str = "") -> list[str]:
    """All keys of a config, in the form that `demo` takes."""
    found = []
    for key, value in table.items():
        found += [f"{prefix}{key}", *(places(value, f"{prefix}{key}__") if isinstance(value, dict) else [])]
    return found


@given(place=st.sampled_from(places(DEMO)), value=YAML_VALUES)
def test_any_value_anywhere_is_accepted_or_refused_in_one_line(place: str, value: Any) -> None:
    text = "fine: it loads"
    try:
        load(demo(**{place: value}))
    except BadInput as error:
        text = str(error)
    assert len(text.splitlines()) == 1
    assert ": " in text


@given(place=st.sampled_from(places(DEMO)), value=YAML_VALUES)
def test_what_loads_fits_the_json_schema(place: str, value: Any) -> None:
    config = demo(**{place: value})
    try:
        load(config)
    except BadInput:
        return
    jsonschema.validate(config, json.loads((ROOT / "config/schema.json").read_text()))


# Machine and models


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"sources__thinking__model": "resources/models/thinkinn"},
            "sources.thinking.model: found no resources/models/",
        ),
        (
            {"sources__thinking__model": "resources/thinking"},
            "sources.thinking.model: found no resources/thinking",
        ),
        ({"sources__thinking__model": "./x"}, "sources.thinking.model: found no ./x"),
        ({"sources__thinking__revision": "main"}, 'sources.thinking.revision: found "main", expected null'),
        ({"base": {"model": "resources/models/bas"}}, "base.model: found no resources/models/bas"),
        ({"evaluation__tasks__tiny_aime__data": "x.csv"}, "evaluation.tasks.tiny_aime.data: found no x.csv"),
    ],
)
def test_a_path_that_is_not_there(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_paths(load(demo(**changes)))
    assert str(caught.value).startswith(expected)
    assert len(str(caught.value).splitlines()) == 1


def test_a_benchmark_that_vanished() -> None:
    config = load(demo(evaluation__tasks__tiny_aime__data="x.csv"))
    with pytest.raises(BadInput, match=r"^evaluation\.tasks\.tiny_aime\.data: cannot read x\.csv"):
        evaluation_identity(config, end_point=False)


def test_hub_ids_need_no_folder() -> None:
    config = load(demo(sources__thinking={"model": "Qwen/Qwen3-4B-Thinking-2507", "revision": "main"}))
    check_paths(config)
    assert source_files(config.sources["thinking"]) == []


def test_files_of_a_source() -> None:
    files = source_files(load(DEMO).sources["instruct"])
    assert files == sorted(files)
    assert "resources/models/instruct/model.safetensors" in files
    assert all(Path(file).is_file() for file in files)


@pytest.mark.parametrize(
    ("model", "is_one"),
    [
        ("org/name", True),
        ("org/na.me-2_b", True),
        ("name", False),
        ("a/b/c", False),
        ("/a/b", False),
        ("../a", False),
    ],
)
def test_what_looks_like_a_hub_id(model: str, is_one: bool) -> None:
    assert is_hub_id(model) == is_one
    assert not is_hub_id("config/misspelt")  # config is a folder here


def test_more_blocks_than_layers() -> None:
    check_blocks(load(DEMO), 6)
    with pytest.raises(BadInput, match=r"^blocks\.n_blocks: found 6, expected at most 5"):
        check_blocks(load(DEMO), 5)
    own = load(demo(searches={"a": {"n_blocks": 9}, "b": {"granularity": "layer"}}))
    with pytest.raises(BadInput, match=r"^searches\.a\.n_blocks: found 9, expected at most 8"):
        check_blocks(own, 8)
    check_blocks(load(demo(searches={"b": {"granularity": "layer"}})), 2)


def test_the_nearest_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert nearest_folder(Path("results/demo")) == tmp_path
    (tmp_path / "results").mkdir()
    assert nearest_folder(Path("results/demo")) == tmp_path / "results"
    (tmp_path / "results" / "demo").mkdir()
    assert nearest_folder(Path("results/demo")) == Path("results/demo")
    assert nearest_folder(Path("/nowhere/at/all")) == Path("/")


@pytest.mark.parametrize("link", ["results", "results/demo", "results/demo/candidates"])
def test_a_link_on_the_way_that_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path, there = tmp_path / link, tmp_path / "scratch"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(there)
    folder = Path("results/demo/candidates/0a")
    for check in (nearest_folder, check_writable):
        with pytest.raises(BadInput, match=rf"^.*{link}: a link to {there}, which is gone; make that folder"):
            check(folder)
    there.mkdir()
    assert nearest_folder(folder) == path
    check_writable(folder)
    assert list(there.iterdir()) == []


def test_a_results_folder_that_cannot_be_written(tmp_path: Path) -> None:
    check_writable(tmp_path / "not/yet/there")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "results").write_text("a file")
    with pytest.raises(BadInput, match=r"results/demo: cannot write to .*results \(Not a directory\)"):
        check_writable(tmp_path / "results/demo")
    # Refused even to root, whom permissions do not stop.
    if Path("/proc/self").exists():
        with pytest.raises(BadInput, match=r"^/proc/self/results: cannot write to /proc/self "):
            check_writable(Path("/proc/self/results"))
