"""What merged models take on the disk, of the sources' own sizes."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bambo.config import Config, load
from bambo.disk import Space, check_space, size, space
from bambo.errors import BadInput
from demo_config import demo
from pico import tensors, write_checkpoint


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The sources of a config: two models of equal shapes, the first one in half precision."""
    monkeypatch.chdir(tmp_path)
    models = {"thinking": torch.bfloat16, "instruct": torch.float32}
    return {
        name: {"model": str(write_checkpoint(tmp_path / name, tensors(dtype=dtype)))}
        for name, dtype in models.items()
    }


def config(sources: dict[str, Any], **changes: Any) -> Config:
    return load(demo(sources=sources, **changes))


BYTES = 4 * sum(tensor.numel() for tensor in tensors().values())


def test_one_model_an_evaluation_and_one_more(pair: dict[str, Any], tmp_path: Path) -> None:
    found = space(config(pair), parallel=3)
    assert found is not None
    assert (found.models, found.model_bytes) == (4, BYTES)
    assert found.needed == 4 * BYTES
    assert found.free > 0
    assert {path.name for path in tmp_path.iterdir()} == set(pair)  # the run's folder is not made


def test_a_source_on_the_hub_has_no_size_yet(pair: dict[str, Any]) -> None:
    there = {"model": "Qwen/Qwen3-4B-Thinking-2507"}
    assert space(config({**pair, "instruct": there}), 1).model_bytes == BYTES / 2
    assert space(config({"thinking": there, "instruct": {"model": "Qwen/Qwen3-4B"}}), 1) is None


def test_simulated_runs_need_none(pair: dict[str, Any]) -> None:
    simulated = config(pair, evaluation__engine="simulated")
    assert space(simulated, 10**12) is None
    assert check_space(simulated, 10**12) is None


def test_too_little_space_is_said_before_any_job(
    pair: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=3 * BYTES)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert check_space(config(pair), 2) == Space(3, BYTES, 3 * BYTES)
    with pytest.raises(BadInput) as found:
        check_space(config(pair), 3)
    assert str(found.value) == (
        f"results/demo: {size(3 * BYTES)} are free, expected {size(4 * BYTES)} for 4 merged models of {size(BYTES)}; "
        "free space, let fewer evaluations run at a time, or work elsewhere"
    )
    assert set(asked) == {Path.cwd()}  # the nearest folder that is there
    Path("results/demo").mkdir(parents=True)
    check_space(config(pair), 2)
    assert asked[-1] == Path("results/demo")


def test_a_real_disk_has_an_end(pair: dict[str, Any]) -> None:
    with pytest.raises(
        BadInput, match=r"^results/demo: .* are free, expected .* TB for 1000000000000001 merged"
    ):
        check_space(config(pair), 10**15)


def test_a_folder_that_is_a_link_to_nowhere(pair: dict[str, Any]) -> None:
    Path("results").symlink_to("scratch")
    with pytest.raises(BadInput, match=r"results: a link to scratch, which is gone"):
        check_space(config(pair), 1)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 kB"),
        (1700, "1.7 kB"),
        (1_700_000, "1.7 MB"),
        (8_045_591_552, "8.0 GB"),
        (2.5e12, "2.5 TB"),
        (3e15, "3000.0 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
