"""The energy that GPUs spend, from the counters that their drivers keep (NVML)."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

Meter = Callable[[], float]


def open_meter(uuids: Sequence[str]) -> Meter | None:
    """A function that reads how many joules these GPUs have spent, all processes' work and idling included.

    uuids: as nvidia-smi calls the GPUs. None where there is no GPU, no NVML, or a GPU without a counter (before Volta,
    or a part of one under MIG): the energy is then not known, which is no error.
    """
    if not uuids:
        return None
    try:
        import pynvml
    except ImportError:
        print("energy: nvidia-ml-py is not installed, so it is not measured", file=sys.stderr)
        return None
    try:
        pynvml.nvmlInit()
        handles: list[Any] = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]

        def joules() -> float:
            return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1000

        joules()
    except pynvml.NVMLError as error:
        print(f"energy: not measured on {', '.join(uuids)} ({error})", file=sys.stderr)
        return None
    return joules
