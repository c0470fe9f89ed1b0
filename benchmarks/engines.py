"""What each engine takes to start, to answer and to be given other weights: one table, on random models.

`python benchmarks/engines.py [--engines hf continuous] [--size 0.6B] [--layers 4] [--answers 16] [--tokens 64] ...`:
two models with the shapes of Qwen3-0.6B or Qwen3-4B and random bf16 weights, the embedded tokenizer, prompts of 128
tokens, greedy answers of equal length. Each engine has a process of its own; sources are in the page cache. vLLM runs
with the interpreter of its environment.
"""

import argparse
import json
import multiprocessing
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import torch
from bambo.evaluation import load_engine
from bambo.evaluation.engine import Machine, Request
from bambo.files import write_text
from bambo.merging import merge, merged_tensors, open_sources
from bambo.recipe import make_recipe
from bambo.sources import describe
from merge_throughput import read_all
from safetensors.torch import save_file

# Hidden size, width of the MLP, heads, heads of keys and values, layers, whether the head is the embedding matrix.
SIZES = {"0.6B": (1024, 3072, 16, 8, 28, True), "4B": (2560, 9728, 32, 8, 36, True)}
TOKENIZER = Path(__file__).parents[1] / "resources/models/instruct"
VOCABULARY, PROMPT, GREEDY = 151936, 128, {"do_sample": False}


def make_source(folder: Path, size: str, layers: int | None, seed: int) -> None:
    from transformers import AutoModelForCausalLM, Qwen3Config

    hidden, intermediate, heads, key_value_heads, depth, tied = SIZES[size]
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        head_dim=128,
        num_hidden_layers=layers or depth,
        tie_word_embeddings=tied,
        max_position_embeddings=4096,
        dtype="bfloat16",
        architectures=["Qwen3ForCausalLM"],
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    folder.mkdir()
    for file in TOKENIZER.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    config.save_pretrained(folder)
    torch.manual_seed(seed)
    names = {name for name, _ in model.named_parameters()}  # a tied head once
    tensors = {
        name: torch.randn(tensor.shape).mul_(0.02).to(torch.bfloat16)
        for name, tensor in model.state_dict().items()
        if name in names
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # No token ends an answer, so that all are equally long.
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": VOCABULARY - 1}))


def seconds(work: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def recipe_for(sources: Sequence[Path]) -> dict[str, Any]:
    """A linear merge of the sources."""
    records = {source.name: describe(str(source), None) for source in sources}
    weights = {key: [0.3, 0.7] for key in records["instruct"]["groups"]}
    return make_recipe(weights, records, "instruct", {})


def measure(engine: str, sources: list[Path], machine: Machine, answers: int, tokens: int) -> dict[str, Any]:
    """Seconds of each step, in this process; `size` in bytes."""
    start = time.perf_counter()
    settings = {"engine": engine, "dtype": "bfloat16"}
    loaded = load_engine(settings, sources[-1], machine)
    figures: dict[str, Any] = {"engine": engine, "start": time.perf_counter() - start}
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(300, 2000, (PROMPT,), generator=generator).tolist() for _ in range(answers)]
    requests = [Request("", prompt, tokens, GREEDY, 0) for prompt in prompts]
    size = loaded.chunk_size
    chunks = [requests[place : place + size] for place in range(0, answers, size)]
    list(loaded.generate(chunks[:1]))  # what the first call sets up
    start = time.perf_counter()
    made = sum(output.tokens for _, outputs in loaded.generate(chunks) for output in outputs)
    figures["throughput"] = made / (time.perf_counter() - start)
    recipe = recipe_for(sources)
    opened = open_sources(recipe)
    figures["in place"] = seconds(
        lambda: loaded.load_weights(merged_tensors(recipe, opened, machine.threads))
    )
    figures["device"] = loaded.device_name
    loaded.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", nargs="+", default=["hf", "continuous"])
    parser.add_argument("--size", choices=SIZES, default="0.6B")
    parser.add_argument("--layers", type=int, help="instead of the model's own number")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    given = parser.parse_args()
    device = given.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = Machine(device, int(device == "cuda"), given.threads, given.answers, model_length=2048)
    with tempfile.TemporaryDirectory() as folder:
        sources = [Path(folder) / "thinking", Path(folder) / "instruct"]
        for seed, source in enumerate(sources):
            make_source(source, given.size, given.layers, seed)
        read_all(sources)
        size = (sources[0] / "model.safetensors").stat().st_size / 1e9
        rows = []
        for engine in given.engines:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                work = process.submit(measure, engine, sources, machine, given.answers, given.tokens)
                rows.append(work.result())
        to_file = seconds(merge, recipe_for(sources), Path(folder) / "merged", given.threads)
    layers = given.layers or SIZES[given.size][4]
    lines = [
        f"Qwen3-{given.size}, {layers} layers, {size:.2f} GB (bf16) on {rows[0]['device']}, {date.today()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}",
        f"{given.answers} answers of {given.tokens} tokens to prompts of {PROMPT}; merging to a file: {to_file:.1f} s",
        f"{'engine':12}  start s  tokens/s  merge in place s",
        *(
            f"{row['engine']:12}  {row['start']:7.1f}  {row['throughput']:8.0f}  {row['in place']:16.1f}"
            for row in rows
        ),
    ]
    table = "\n".join(lines) + "\n"
    print(table, end="")
    write_text(given.output / "engines.txt", table)


if __name__ == "__main__":
    main()
