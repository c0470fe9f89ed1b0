"""The meter, against a stand-in for NVML: no GPU is needed. The real counter was not read by these tests."""

import sys
from types import ModuleType

import pytest
from bambo.evaluation import job
from bambo.evaluation.energy import open_meter


class NVML(ModuleType):
    """Counters in millijoules, which grow by a joule at each reading; `failing` has none."""

    class NVMLError(Exception):
        pass

    def __init__(self, failing: str = "", missing: bool = False) -> None:
        super().__init__("pynvml")
        self.counters = {"GPU-a": 5_000_000, "GPU-b": 7_000_000}
        self.failing, self.missing = failing, missing

    def nvmlInit(self) -> None:
        if self.missing:
            raise self.NVMLError("NVML Shared Library Not Found")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if handle == self.failing:
            raise self.NVMLError("Not Supported")
        self.counters[handle] += 1000
        return self.counters[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> NVML:
    module = NVML()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def test_joules_of_one_gpu_and_of_several(nvml: NVML) -> None:
    one, both = open_meter(["GPU-a"]), open_meter(["GPU-a", "GPU-b"])
    assert one is not None
    assert both is not None
    before = one()
    assert one() - before == pytest.approx(1.0)
    before = both()
    assert both() - before == pytest.approx(2.0)


@pytest.mark.parametrize("module", [NVML(failing="GPU-b"), NVML(missing=True), None])
def test_no_meter_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: NVML | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert open_meter(["GPU-a", "GPU-b"]) is None
    assert capsys.readouterr().err.startswith("energy: ")
    assert open_meter([]) is None
    assert capsys.readouterr().err == ""


def test_the_meter_is_of_the_gpus_that_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "visible_gpus", lambda: ["GPU-a", "GPU-b", "GPU-c"])
    assert job._own_gpus({"engine": "vllm"}, 2) == ["GPU-a", "GPU-b"]
    assert job._own_gpus({"engine": "hf"}, 0) == []
    assert job._own_gpus({"engine": "server", "server": {"command": "serve {model}"}}, 1) == ["GPU-a"]
    assert job._own_gpus({"engine": "server", "server": {"command": None}}, 1) == []
