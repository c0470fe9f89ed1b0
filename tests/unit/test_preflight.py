"""What is known before any job runs: how many evaluations can run at a time, and what is wrong."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from bambo.candidate.devices import VISIBLE
from bambo.config import load
from bambo.disk import Space
from bambo.errors import BadInput
from bambo.evaluation import check_tasks
from bambo.preflight import Places, check, check_objectives, dimension_notes, parallel_evaluations
from demo_config import ROOT, demo
from snakemake.resources import Resource

END_POINTS = 3  # each source under the files of all, and the other one under its own
WANTED = 8 + 9 + END_POINTS  # evaluations that the demo can have under way at a time


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with four GPUs; the file `asked` is there once they were counted."""
    script = tmp_path / "nvidia-smi"
    script.write_text(f'#!/bin/sh\n: > "{tmp_path / "asked"}"\nprintf "GPU-a\\nGPU-b\\nGPU-c\\nGPU-d\\n"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv(VISIBLE, raising=False)
    return script


def places(cores: int | None, nodes: int | None = None, gpu: int | None = None, **changes: Any) -> Places:
    resources = {} if gpu is None else {"gpu": Resource("gpu", gpu)}
    return parallel_evaluations(load(demo(**changes)), cores, nodes, resources)


def on_cpus(count: int, cores: int | None = None) -> Places:
    return Places(count, 0, {"model": cores or count, "merging": 1, "proposing": 4})


@pytest.mark.parametrize(
    ("cores", "threads", "expected"),
    [
        (1, 1, on_cpus(1)),
        (4, 1, on_cpus(4)),
        (7, 2, on_cpus(3)),
        (2, 4, on_cpus(1)),  # Snakemake gives a job no more cores than there are
        (None, 1, on_cpus(1)),
        (64, 1, on_cpus(WANTED, 64)),  # no more than the searches ask for
    ],
)
def test_on_cpus_cores_decide(nvidia_smi: Path, cores: int | None, threads: int, expected: Places) -> None:
    assert places(cores, evaluation__device="cpu", evaluation__threads=threads) == expected
    assert places(cores, resources__evaluate__gpu=0, evaluation__threads=threads) == expected
    assert not (nvidia_smi.parent / "asked").exists()
    nvidia_smi.write_text("#!/bin/sh\nexit 1\n")
    assert places(cores, evaluation__device="auto", evaluation__threads=threads) == expected


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("cores", "each", "given", "count", "gpu"),
    [
        (16, 1, None, 4, 4),
        (16, 2, None, 2, 4),
        (16, 3, None, 1, 4),
        (16, 8, None, 1, 4),  # too few: its evaluations say so
        (3, 1, None, 3, 4),
        # What the user gives counts, and is given already.
        (16, 1, 2, 2, None),
        (16, 1, 8, 8, None),
        (16, 2, 1, 1, None),
    ],
)
def test_on_gpus_their_number_decides(
    cores: int, each: int, given: int | None, count: int, gpu: int | None
) -> None:
    limits = {"model": count, "merging": 1, "proposing": 4} | ({} if gpu is None else {"gpu": gpu})
    for device in ("auto", "cuda"):
        found = places(cores, gpu=given, evaluation__device=device, resources__evaluate__gpu=each)
        assert found == Places(count, 4, limits)


@pytest.mark.usefixtures("nvidia_smi")
def test_only_gpus_that_may_be_used_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "2,0")
    assert places(16) == Places(2, 2, {"gpu": 2, "model": 2, "merging": 1, "proposing": 4})
    monkeypatch.setenv(VISIBLE, "")
    assert places(16) == on_cpus(16)
    assert places(16, gpu=3) == Places(
        3, 0, {"model": 3, "merging": 1, "proposing": 4}
    )  # the user knows better


def test_a_scheduler_assigns_gpus_itself(nvidia_smi: Path) -> None:
    assert places(None, nodes=5) == Places(5, None, {})
    assert places(16, nodes=500, gpu=2) == Places(WANTED, None, {})
    assert not (nvidia_smi.parent / "asked").exists()


def test_batches_of_all_searches_run_at_a_time() -> None:
    wide = {
        "wide": {"n_initial": 4, "batch_size": 30},
        "grid": {"preset": "model-grid", "weights": [0.5, 0.6]},
    }
    grid = 4  # the preset's batch, of which a grid has no use
    assert places(None, nodes=500, searches=wide).count == 30 + max(2, grid) + END_POINTS


def test_the_shipped_config_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = check(load(demo(run="never-started")), 2)
    assert isinstance(found, Space)
    assert found.models == 3


def test_a_run_that_cannot_be_written_to_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder in ("resources", "config"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "results").symlink_to("scratch")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"results: a link to scratch, which is gone"):
        check(load(demo()), 1)


def objectives(**own: Any) -> None:
    made = {"expert": "thinking", "base": "instruct", **own}
    check_objectives(load(demo(objectives__reasoning=made)))


def test_metrics_of_the_harness_are_known_by_their_task_files() -> None:
    for metric in ("accuracy", "energy", "exact_match,none"):
        objectives(metric=metric, **({} if "energy" in metric else {"benchmarks": ["tiny_aime"]}))
    objectives(metric="exact_match", benchmarks=["tiny_aime"])
    objectives(metric="exact_match,strict-match", benchmarks=["tiny_gpqa"])


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (
            {"metric": "exact_match"},
            r"objectives\.reasoning\.metric: benchmark tiny_gpqa reads 'exact_match' in several ways, "
            "expected 'exact_match,strict-match' or 'exact_match,flexible-extract'",
        ),
        (
            {"metric": "exact_mach", "benchmarks": ["tiny_aime"]},
            r"objectives\.reasoning\.metric: 'exact_mach' is no metric of benchmark tiny_aime, .* is it 'exact_match'",
        ),
        ({"metric": "acuracy"}, r"'acuracy' is no metric of benchmark tiny_gpqa, .* is it 'accuracy'"),
    ],
)
def test_an_unknown_metric_is_named_with_the_nearest(own: dict[str, Any], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        objectives(**own)


def test_the_third_objective_of_the_papers_run_is_ready() -> None:
    text = (ROOT / "config/qwen3-4b.yaml").read_text()
    config = load(yaml.safe_load(text.replace("# + ", "")))
    assert list(config.objectives) == ["reasoning", "efficiency", "instructions"]
    assert list(config.evaluation.tasks) == ["gpqa", "aime25", "ifeval"]
    assert len(config.reference_point) == 3
    check_tasks({name: task.model_dump() for name, task in config.evaluation.tasks.items()})
    check_objectives(config)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"max_tokens": 512},
            r"evaluation\.max_tokens: 512, but resources/models/thinking has room for 512 tokens",
        ),
        (
            {"model_length": 513},
            r"evaluation\.model_length: 513, but resources/models/\w+ was made for 512 tokens",
        ),
        (
            {"tasks__tiny_aime__max_tokens": 600},
            r"tasks\.tiny_aime\.max_tokens: 600, but .* room for 512 tokens",
        ),
    ],
)
def test_answers_that_would_cut_the_prompt(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], text: str
) -> None:
    monkeypatch.chdir(ROOT)
    config = load(demo(**{f"evaluation__{key}": value for key, value in changes.items()}))
    with pytest.raises(BadInput, match=text):
        check(config, 1)


def test_room_for_a_prompt() -> None:
    with pytest.raises(BadInput, match=r"model_length: found 160, expected more than the 160 of max_tokens"):
        load(demo(evaluation__model_length=160))


def test_a_base_is_checked_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pico

    monkeypatch.chdir(ROOT)
    other = pico.make_pair(tmp_path)
    base = {"model": str(next(iter(other.values())))}
    check(load(demo(base=base)), 1)
    with pytest.raises(BadInput, match="give fine-tunes of one model"):
        check(load(demo(base=base, searches={"a": {"method": "dare_ties"}})), 1)
    check(load(demo(base={"model": "resources/models/base"}, searches={"a": {"method": "ties"}})), 1)


def test_an_adapter_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    adapted = {"model": "resources/models/thinking", "adapter": "resources/none"}
    with pytest.raises(BadInput, match=r"sources\.thinking\.adapter: found no resources/none in"):
        check(load(demo(sources__thinking=adapted)), 1)


@pytest.mark.parametrize(
    ("search", "text"),
    [
        (
            {"granularity": "layer", "iterations": 7},
            "36 evaluations of 14 variables, 2.6 each, where 3 are few",
        ),
        ({"granularity": "module"}, "48 evaluations of 26 variables, 1.8 each"),
        ({"granularity": "layer", "iterations": 9}, None),
        ({"iterations": 2}, "16 evaluations of 8 variables, 2.0 each"),
        ({"granularity": "module", "iterations": 1, "optimiser": "sobol"}, None),
        ({"granularity": "module", "start_from": "coarse"}, None),
        ({"preset": "model-grid", "weights": 2}, None),
        (
            {"method": "ties", "density": {"min": 0.2, "max": 0.5}, "iterations": 9},
            "44 evaluations of 16 variables",
        ),
    ],
)
def test_few_evaluations_for_many_variables(
    search: dict[str, Any], text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    base = {"model": "resources/models/base"}
    config = load(
        demo(
            base=base, searches={"coarse": {"iterations": 20}, "own": search | {"without_base": "leave-out"}}
        )
    )
    notes = [note for note in dimension_notes(config) if note.startswith("searches.own: ")]
    if text is None:
        assert notes == []
    else:
        assert text in notes[0]


def test_the_shipped_configs_have_evaluations_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert dimension_notes(load(demo())) == []
