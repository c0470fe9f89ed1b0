"""One case of merge_throughput.py, in a process of its own: `merge_case.py CASE.json` prints what it cost.

A case is {"way", "recipe", "output", "threads", "cache", "sources"}; imports are not counted but in `process_cpu`, and
are those that the way needs.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "peers"))
from peer import Meter

BLOCK = 1 << 20


def floor(case: Mapping[str, Any]) -> dict[str, float]:
    """Read all files of the sources and write as many bytes as one of them has to a new folder."""
    meter = Meter()
    output = Path(case["output"])
    output.mkdir()
    buffer = memoryview(bytearray(BLOCK))
    for name in sorted(file.name for file in Path(case["sources"][0]).glob("*.safetensors")):
        readers = [os.open(Path(source) / name, os.O_RDONLY) for source in case["sources"]]
        writer = os.open(output / name, os.O_WRONLY | os.O_CREAT)
        size = os.fstat(readers[0]).st_size
        os.posix_fallocate(writer, 0, size)
        for offset in range(0, size, BLOCK):
            for reader in readers:
                count = os.preadv(reader, [buffer], offset)
            os.pwrite(writer, buffer[:count], offset)
        for descriptor in [*readers, writer]:
            os.close(descriptor)
    return meter.stop()


def file(case: Mapping[str, Any]) -> dict[str, float]:
    """Merge to a folder."""
    from bambo.merging import merge

    meter = Meter()
    merge(case["recipe"], Path(case["output"]), case["threads"], cache=cache(case))
    return meter.stop()


def model(case: Mapping[str, Any]) -> dict[str, float]:
    """Merge into the parameters of a loaded model, whose own memory is not counted."""
    import torch
    from bambo.merging import merged_tensors, open_sources
    from bambo.merging.tensors import FLOATS

    infos = open_sources(case["recipe"]).template.tensors
    parameters = {name: torch.ones(info.shape, dtype=FLOATS[info.dtype]) for name, info in infos.items()}
    meter = Meter()
    sources = open_sources(case["recipe"])
    for name, tensor in merged_tensors(case["recipe"], sources, case["threads"], cache=cache(case)):
        parameters[name].copy_(tensor)
    spent = meter.stop()
    own = sum(parameter.nbytes for parameter in parameters.values()) / 2**20
    return {**spent, "memory": spent["memory"] - own}


def cache(case: Mapping[str, Any]) -> Path | None:
    return Path(case["cache"]) if case.get("cache") else None


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps({"floor": floor, "file": file, "model": model}[given["way"]](given)))
