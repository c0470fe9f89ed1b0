"""How close merging comes to reading both sources and writing the result: one table, on a synthetic pair.

`python benchmarks/merge_throughput.py [--layers 12] [--output results/benchmarks]`. The pair has the shapes
of Qwen3-0.6B in bf16, an untied head and the given number of layers (12: 1 GB a model). All rows come from
one run, each in a process of its own, imports not counted, sources in the page cache, the best of three.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from bambo.checkpoint import fingerprint, groups, map_tensors, open_checkpoint
from bambo.files import write_text
from bambo.headers import TensorInfo, encode_header
from bambo.merging import merge
from bambo.recipe import make_recipe

HIDDEN, INTERMEDIATE, HEADS, KEY_VALUE_HEADS, HEAD_DIM, VOCABULARY = 1024, 3072, 16, 8, 128, 151936
BLOCK = 1 << 20
REPEATS = 3


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    layer = {
        "input_layernorm": (HIDDEN,),
        "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
        "self_attn.k_proj": (KEY_VALUE_HEADS * HEAD_DIM, HIDDEN),
        "self_attn.v_proj": (KEY_VALUE_HEADS * HEAD_DIM, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
        "post_attention_layernorm": (HIDDEN,),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    }
    return {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        **{f"model.layers.{i}.{name}.weight": shape for i in range(layers) for name, shape in layer.items()},
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }


def make_source(folder: Path, layers: int, seed: int) -> None:
    """A model folder with normal bf16 weights; a few megabytes of them, over and over."""
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"})
    )
    values = np.random.default_rng(seed).normal(0, 0.02, BLOCK).astype(np.float32)
    noise = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    tensors = {
        name: TensorInfo(folder, "BF16", shape, 0, 2 * int(np.prod(shape)))
        for name, shape in shapes(layers).items()
    }
    header, _ = encode_header(tensors)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(header)
        remaining = sum(tensor.bytes for tensor in tensors.values())
        while remaining:
            remaining -= file.write(noise[:remaining])


def floor(sources: list[Path], output: Path) -> None:
    """Read all sources from the page cache and write as many bytes as one of them to a new folder."""
    output.mkdir()
    files = [source / "model.safetensors" for source in sources]
    size = files[0].stat().st_size
    buffer = memoryview(bytearray(BLOCK))
    readers = [os.open(file, os.O_RDONLY) for file in files]
    descriptor = os.open(output / files[0].name, os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, size)
    for offset in range(0, size, BLOCK):
        for reader in readers:
            count = os.preadv(reader, [buffer], offset)
        os.pwrite(descriptor, buffer[:count], offset)
    for opened in [*readers, descriptor]:
        os.close(opened)


def recipe_for(sources: list[Path], weight: float) -> dict:
    checkpoints = [open_checkpoint(source) for source in sources]
    records = {c.path.name: {"path": str(c.path), **fingerprint(c)} for c in checkpoints}
    weights = {group: [weight, 1 - weight] for group in groups(checkpoints[0])}
    return make_recipe(weights, records, checkpoints[-1].path.name, {})


def read_all(sources: list[Path]) -> None:
    """Bring the sources into the page cache."""
    for source in sources:
        for view in map_tensors(open_checkpoint(source)).values():
            np.frombuffer(view, np.uint8)[::4096].max()


def anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def measure(work: Callable[..., None], *arguments: object) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak anonymous memory in MB of one call."""
    peak, done = anonymous_megabytes(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work(*arguments)
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - start
    done.set()
    watcher.join()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = [Path(folder) / "thinking", Path(folder) / "instruct"]
        for seed, source in enumerate(sources):
            make_source(source, options.layers, seed)
        read_all(sources)
        size = (sources[0] / "model.safetensors").stat().st_size / 1e9
        result = Path(folder) / "merged"
        cases: dict[str, tuple[Any, ...]] = {
            "floor: read both, write one": (floor, sources, result),
            "merge, 1 thread": (merge, recipe_for(sources, 0.3), result, 1),
            "merge, 2 threads": (merge, recipe_for(sources, 0.3), result, 2),
            "merge, all weight on one source": (merge, recipe_for(sources, 1.0), result, 2),
        }
        lines = [
            f"Merging two models of {size:.2f} GB (bf16)",
            f"{'':32}  CPU s  wall s  peak anonymous MB  CPU / floor",
        ]
        base = None
        for name, case in cases.items():
            runs = []
            for _ in range(REPEATS):
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    runs.append(process.submit(measure, *case).result())
                shutil.rmtree(result)
            cpu, wall, peak = (min(values) for values in zip(*runs, strict=True))
            base = base or cpu
            lines.append(f"{name:32}  {cpu:5.2f}  {wall:6.2f}  {peak:17.0f}  {cpu / base:11.1f}")
    table = "\n".join(lines) + "\n"
    print(table, end="")
    write_text(options.output / "merge_throughput.txt", table)


if __name__ == "__main__":
    main()
