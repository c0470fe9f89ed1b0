"""Fixtures that several files of unit tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pico_chat import make_chat_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random model that can be asked; tests that change it take `copy`."""
    path = tmp_path_factory.mktemp("pico")
    make_chat_model(path, initializer_range=0.5)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a network and with a cache of its own."""
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As proposals run: more threads add in another order, which shows in last digits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def whole_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What spares a job half of its imports would spoil this process for other tests."""
    monkeypatch.setattr("bambo.evaluation.startup.lean", lambda: None)
