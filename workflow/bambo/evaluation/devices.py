"""What the devices are called that models run on."""

import platform
from pathlib import Path


def cpu_name() -> str:
    """As its maker calls it, or the architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
