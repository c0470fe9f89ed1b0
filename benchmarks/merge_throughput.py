"""What merging costs: every method beside mergekit, and beside reading the sources and writing the result alone.

`make bench-merge`, or `python benchmarks/merge_throughput.py [--layers 30] [--methods ties,della] ...`. The models are
random, with the shapes of Qwen3-0.6B, an untied head and the given number of layers (30: 783 M parameters, 1.6 GB in
bf16): a base, and two fine-tunes that differ from it by noise of a tenth of its size, so that task vectors are a few
bf16 steps long and many of their elements are equal, as in true models. Every case is a process of its own, with the
sources in the page cache; the best of several runs counts: as many as begin within --seconds, at most --repeats.

With --large, instead: a model of 10 GB in 5 shards with embeddings of 400 M elements, merged by every method of ours;
takes 30 GB of disk.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from bambo.checkpoint import groups, map_tensors, open_checkpoint, sample
from bambo.files import write_text
from bambo.headers import TensorInfo, encode_header
from bambo.methods import METHODS
from bambo.recipe import make_recipe

ROOT = Path(__file__).parents[1]
PEER = [str(ROOT / ".venv-mergekit" / "bin" / "python"), str(ROOT / "tests" / "peers" / "peer.py")]
OURS = [sys.executable, str(Path(__file__).with_name("merge_case.py"))]
# Threads that spin while they wait, OpenMP's default, add to mergekit's CPU seconds; ours has none that wait.
SPINNING = {
    key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
}
PASSIVE = {**SPINNING, "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}

# Of mergekit's CPU seconds, imports excluded, at most this share; and of the whole process.
TARGETS = {"linear": 20, "task_arithmetic": 10, "ties": 6, "breadcrumbs": 6, "breadcrumbs_ties": 6}
TARGETS |= {"dare_linear": 5, "dare_ties": 5, "della": 4, "della_linear": 4}
CACHED_TARGET = 10
WHOLE_TARGETS = {"linear": 4, "task_arithmetic": 4}
FLOOR_TARGETS = {"linear": 1.5}  # times the floor
MEMORY_TARGET = 250  # MB
WEIGHTS = [0.3, 0.7]


# ----------------------------------------------------------------------------------------------------- models


@dataclass(frozen=True)
class Size:
    hidden: int = 1024
    intermediate: int = 3072
    heads: int = 16
    key_value_heads: int = 8
    head_dim: int = 128
    vocabulary: int = 151936
    layers: int = 30

    @property
    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "num_hidden_layers": self.layers,
            "tie_word_embeddings": False,
        }

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        key_value = (self.key_value_heads * self.head_dim, self.hidden)
        layer = {
            "input_layernorm": (self.hidden,),
            "self_attn.q_proj": (self.heads * self.head_dim, self.hidden),
            "self_attn.k_proj": key_value,
            "self_attn.v_proj": key_value,
            "self_attn.o_proj": (self.hidden, self.heads * self.head_dim),
            "self_attn.q_norm": (self.head_dim,),
            "self_attn.k_norm": (self.head_dim,),
            "post_attention_layernorm": (self.hidden,),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }
        return {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden),
            **{
                f"model.layers.{i}.{name}.weight": shape
                for i in range(self.layers)
                for name, shape in layer.items()
            },
            "model.norm.weight": (self.hidden,),
            "lm_head.weight": (self.vocabulary, self.hidden),
        }


LARGE = Size(hidden=2048, intermediate=6144, vocabulary=195584, layers=84)


class Noise:
    """Normal numbers, cheaply: pieces of one pool, from places that a seed draws.

    Two of them are added for a fine-tune, each from a place of its own, so that sums do not repeat as pieces do.
    """

    PIECE = 1 << 20

    def __init__(self, pieces: int = 24) -> None:
        self.pool = torch.randn(pieces * self.PIECE, generator=torch.Generator().manual_seed(0))

    def places(self, seed: int) -> Iterator[int]:
        generator = np.random.default_rng(seed)
        while True:
            yield int(generator.integers(len(self.pool) - self.PIECE))

    def weights(self, seed: int) -> Iterator[torch.Tensor]:
        """bf16 pieces of a model without end: the base for seed 0, its fine-tunes for others."""
        tuned = self.places(seed)
        for place in self.places(0):
            piece = 0.02 * self.pool[place : place + self.PIECE]
            if seed:
                start = next(tuned)
                piece.add_(self.pool[start : start + self.PIECE], alpha=0.002)
            yield piece.bfloat16()


def make_model(folder: Path, size: Size, pieces: Iterator[torch.Tensor] | None, shards: int = 1) -> None:
    """A model folder. pieces: of its weights; None makes files of zeros, without blocks on the disk."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(size.config))
    tensors = {
        name: TensorInfo(folder, "BF16", shape, 0, 2 * int(np.prod(shape)))
        for name, shape in size.shapes.items()
    }
    total, weight_map = sum(tensor.bytes for tensor in tensors.values()), {}
    filled, files = 0, [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    if shards == 1:
        files = ["model.safetensors"]
    for name in tensors:  # to the shard that its first byte falls into
        weight_map[name] = files[filled * shards // total]
        filled += tensors[name].bytes
    for file in files:
        own = {name: tensor for name, tensor in tensors.items() if weight_map[name] == file}
        header, _ = encode_header(own)
        remaining = sum(tensor.bytes for tensor in own.values())
        with open(folder / file, "wb") as stream:
            stream.write(header)
            if pieces is None:
                stream.truncate(len(header) + remaining)
                continue
            while remaining:
                remaining -= stream.write(next(pieces).view(torch.uint8).numpy().data[:remaining])
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def read_all(sources: Sequence[Path]) -> None:
    """Bring the sources into the page cache."""
    for source in sources:
        for view in map_tensors(open_checkpoint(source)).values():
            np.frombuffer(view, np.uint8)[::4096].max()


# ------------------------------------------------------------------------------------------------------ cases


class Bench:
    """The models, and what to do with them. models: thinking, instruct and base."""

    def __init__(self, folder: Path, repeats: int, seconds: float) -> None:
        self.folder, self.repeats, self.seconds = folder, repeats, seconds
        self.models = {name: folder / name for name in ("thinking", "instruct", "base")}
        self.result = folder / "merged"

    def recipe(
        self, method: str, weights: Sequence[float] = WEIGHTS, rescale: str | None = None
    ) -> dict[str, Any]:
        checkpoints = {name: open_checkpoint(path) for name, path in self.models.items()}
        # What nothing here compares is not hashed: fingerprints are names.
        records = {
            name: {"path": str(c.path), "fingerprint": f"{name}-{c.path}", "sample": sample(c)}
            for name, c in checkpoints.items()
        }
        base, members = records.pop("base"), groups(checkpoints["base"])
        options = {"seed": 0} if METHODS[method].random else {}
        return make_recipe(
            {group: list(weights) for group in members},
            records,
            "instruct",
            {},
            method=method,
            base=base if METHODS[method].task_vectors else None,
            parameters={
                key: dict.fromkeys(members, value) for key, value in METHODS[method].parameters.items()
            },
            options=options | ({"rescale": rescale} if rescale else {}),
        )

    def peer_config(self, method: str) -> dict[str, Any]:
        """mergekit's config of the same merge; it rescales by norms, ours by default by probabilities."""
        thinking, instruct, base = (str(path) for path in self.models.values())
        config: dict[str, Any] = {"merge_method": method, "dtype": "float32", "out_dtype": "bfloat16"}
        if method == "slerp":
            models: list[dict[str, Any]] = [{"model": thinking}, {"model": instruct}]
            return {**config, "base_model": thinking, "models": models, "parameters": {"t": WEIGHTS[1]}}
        weights = zip((thinking, instruct), WEIGHTS, strict=True)
        config["models"] = [{"model": path, "parameters": {"weight": weight}} for path, weight in weights]
        if METHODS[method].task_vectors:
            config |= {"base_model": base, "parameters": dict(METHODS[method].parameters)}
        return config

    def ours(self, way: str, recipe: Mapping[str, Any] | None = None, **case: Any) -> dict[str, float]:
        path = self.folder / "case.json"
        settings = {"threads": 2, **case, "way": way, "recipe": recipe, "output": str(self.result)}
        path.write_text(json.dumps(settings))
        return self._best([*OURS, str(path)])

    def floor(self, models: int) -> dict[str, float]:
        return self.ours("floor", sources=[str(path) for path in list(self.models.values())[:models]])

    def peer(self, method: str, environment: Mapping[str, str] = PASSIVE) -> dict[str, float]:
        path = self.folder / "config.yml"
        path.write_text(yaml.safe_dump(self.peer_config(method)))
        return self._best([*PEER, str(path), str(self.result)], environment)

    def _best(self, command: Sequence[str], environment: Mapping[str, str] = PASSIVE) -> dict[str, float]:
        """The least of each number in several runs: a busy machine, or one short of free pages, only adds to them."""
        runs: list[dict[str, float]] = []
        while not runs or (len(runs) < self.repeats and sum(run["wall"] for run in runs) < self.seconds):
            os.sync()  # or this run would write what an earlier one left
            process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            runs.append(json.loads(process.stdout))
            shutil.rmtree(self.result, ignore_errors=True)  # none, where the merge was into a loaded model
        return {key: min(run[key] for run in runs) for key in runs[0]}


# ----------------------------------------------------------------------------------------------------- tables


def ratio(ours: float, other: float) -> str:
    return f"1/{other / ours:.1f}"


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def share(ours: float, theirs: float, target: int) -> str:
    return f"1/{target} {verdict(ours <= theirs / target)}" if target else ""


@dataclass(frozen=True)
class Row:
    """What one merge cost. target: mergekit's CPU seconds by this number, at least; 0 for none."""

    label: str
    method: str
    ours: Mapping[str, float]
    theirs: Mapping[str, float]
    floor: float
    target: int


def measured(bench: Bench, method: str) -> Iterator[Row]:
    """A method's row, and others beside it: with OpenMP's defaults, and with the thresholds of an earlier merge."""
    theirs = bench.peer(method)
    floor = bench.floor(3 if METHODS[method].task_vectors else 2)["cpu"]
    recipe, target = bench.recipe(method), TARGETS.get(method, 0)
    ours = bench.ours("file", recipe)
    yield Row(method, method, ours, theirs, floor, target)
    if METHODS[method].sparsifier == "none":  # others are mostly one thread that sorts or draws
        theirs = bench.peer(method, SPINNING)
        yield Row(f"  {method}, mergekit's threads spin", method, ours, theirs, floor, target)
    if METHODS[method].sparsifier in ("magnitude", "band"):
        cache = bench.folder / "cache"
        bench.ours("file", recipe, cache=str(cache))  # the first run fills it
        cached = bench.ours("file", recipe, cache=str(cache))
        shutil.rmtree(cache)
        yield Row(f"  {method}, cached thresholds", method, cached, theirs, floor, CACHED_TARGET)


def beside_peer(bench: Bench, methods: Sequence[str]) -> Iterator[str]:
    rows = []
    yield "CPU seconds, imports excluded"
    yield f"{'':36}    ours  mergekit  ours/mergekit  target       floor  ours/floor  target"
    for method in methods:
        for row in measured(bench, method):
            rows.append(row)
            ours, theirs = row.ours["cpu"], row.theirs["cpu"]
            times = FLOOR_TARGETS.get(method)
            fast = "" if times is None else f"{times} {verdict(ours <= times * row.floor)}"
            yield (
                f"{row.label:36}  {ours:6.2f}  {theirs:8.2f}  {ratio(ours, theirs):>13}  "
                f"{share(ours, theirs, row.target):11}  {row.floor:5.2f}  {ours / row.floor:10.1f}  {fast}"
            )
    yield ""
    yield "Whole processes, imports included"
    yield f"{'':36}   CPU s                                      wall s            peak anonymous MB"
    yield f"{'':36}    ours  mergekit  ours/mergekit  target       ours  mergekit    ours  mergekit  target"
    for row in rows:
        ours, theirs = row.ours["process_cpu"], row.theirs["process_cpu"]
        memory = row.ours["memory"]
        yield (
            f"{row.label:36}  {ours:6.2f}  {theirs:8.2f}  {ratio(ours, theirs):>13}  "
            f"{share(ours, theirs, WHOLE_TARGETS.get(row.method, 0)):11}  {row.ours['wall']:4.1f}  "
            f"{row.theirs['wall']:8.1f}  {memory:6.0f}  {row.theirs['memory']:8.0f}  "
            f"{MEMORY_TARGET} {verdict(memory <= MEMORY_TARGET)}"
        )


def other_ways(bench: Bench) -> Iterator[str]:
    """Of ours alone: one thread, no file, other options."""
    cases: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {}
    for method in ("linear", "task_arithmetic", "ties", "della"):
        recipe = bench.recipe(method)
        cases[f"{method}, 1 thread"] = ("file", recipe, {"threads": 1})
        cases[f"{method}, into a loaded model"] = ("model", recipe, {})
    cases["linear, all weight on one source"] = ("file", bench.recipe("linear", [1.0, 0.0]), {})
    for method in ("dare_linear", "dare_ties", "della", "della_linear"):
        cases[f"{method}, rescale: l1"] = ("file", bench.recipe(method, rescale="l1"), {})
    yield "Ours in other ways, imports excluded from CPU and wall"
    yield f"{'':36}   CPU s  wall s  peak anonymous MB (without the loaded model)"
    for label, (way, recipe, options) in cases.items():
        spent = bench.ours(way, recipe, **options)
        yield f"{label:36}  {spent['cpu']:6.2f}  {spent['wall']:6.1f}  {spent['memory']:6.0f}"


def large(bench: Bench, methods: Sequence[str]) -> Iterator[str]:
    yield f"{'':20}   CPU s  wall s  peak anonymous MB, imports included"
    for method in methods:
        spent = bench.ours("file", bench.recipe(method))
        yield (
            f"{method:20}  {spent['cpu']:6.1f}  {spent['wall']:6.1f}  {spent['memory']:6.0f}  "
            f"{MEMORY_TARGET} {verdict(spent['memory'] <= MEMORY_TARGET)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=Size.layers)
    parser.add_argument("--vocabulary", type=int, default=Size.vocabulary)
    parser.add_argument("--methods", default=",".join(METHODS), help="names, with commas")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    methods = options.methods.split(",")
    size = LARGE if options.large else Size(vocabulary=options.vocabulary, layers=options.layers)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), 1 if options.large else options.repeats, options.seconds)
        noise, shards = Noise(), 5 if options.large else 1
        # To spare the disk, the large base is all zeros: what a merge takes does not depend on it.
        make_model(bench.models["base"], size, None if options.large else noise.weights(0), shards)
        for seed, name in enumerate(("thinking", "instruct"), start=1):
            make_model(bench.models[name], size, noise.weights(seed), shards)
        if not options.large:
            read_all(list(bench.models.values()))
        del noise
        parameters = sum(
            tensor.parameters for tensor in open_checkpoint(bench.models["base"]).tensors.values()
        )
        lines = [
            f"Merging models of {parameters / 1e6:,.0f} M parameters ({2 * parameters / 1e9:.2f} GB in bf16) on "
            f"{os.cpu_count()} cores: two fine-tunes, and their base where the method takes task vectors",
            "",
        ]
        print("\n".join(lines))
        if options.large:
            table = large(bench, methods)
        else:
            table = itertools.chain(beside_peer(bench, methods), [""], other_ways(bench))
        for line in table:
            print(line, flush=True)
            lines.append(line.rstrip())
    name = "merge_large.txt" if options.large else "merge_throughput.txt"
    write_text(options.output / name, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
