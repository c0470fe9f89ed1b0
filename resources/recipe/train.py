"""Train the embedded models (base, then thinking and instruct from it) and write their benchmarks.

    python resources/recipe/train.py [--output resources] [--seed 0] [--threads 1]

Everything is made in `<output>/.unfinished`; `models/` and `benchmarks/` are replaced when all of it is done.
"""

import os

# Threads that spin while they wait cost more than they bring on busy cores; read when torch loads OpenMP.
os.environ.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0")

import argparse
import copy
import csv
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from language import CHAT_TEMPLATES, END_OF_TEXT, TOKEN_ID, TURN_END, VOCABULARY, build_tokenizer
from problems import (
    INSTRUCT,
    LONGEST_CHAIN,
    THINKING,
    Chain,
    Style,
    base_style,
    draw_benchmarks,
    draw_example,
)
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LambdaLR
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

BATCH_TOKENS = 2048
CHUNK_EXAMPLES = 512
MAX_NEW_TOKENS = 160

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """The training of one model, on chains of `shortest` to `longest` operations answered in a style.

    longest and style are functions of the share of steps done.
    """

    name: str
    steps: int
    learning_rate: float
    warmup_steps: int
    shortest: int
    longest: Callable[[float], int]
    style: Callable[[float], Style]


def growing_length(progress: float) -> int:
    """Longest chain of Base's curriculum: 1 operation at first, all 8 after 20 % of the steps."""
    return min(LONGEST_CHAIN, 1 + int(progress / 0.2 * (LONGEST_CHAIN - 1)))


BASE = Stage("base", 1400, 2e-3, 50, 1, growing_length, base_style)
FINE_TUNES = [
    Stage("thinking", 140, 3e-4, 10, 2, lambda progress: LONGEST_CHAIN, lambda progress: THINKING),
    Stage("instruct", 140, 3e-4, 10, 2, lambda progress: LONGEST_CHAIN, lambda progress: INSTRUCT),
]


def new_model() -> Qwen3ForCausalLM:
    """A Qwen3 of 12 layers and .6 million parameters, freshly initialised."""
    config = Qwen3Config(
        vocab_size=len(VOCABULARY),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=TOKEN_ID[TURN_END],
        pad_token_id=TOKEN_ID[END_OF_TEXT],
    )
    return Qwen3ForCausalLM(config)


def draw_batches(random: Random, stage: Stage, progress: float, held_out: set[Chain]) -> list[Batch]:
    """Batches of about BATCH_TOKENS tokens, examples of similar length together.

    A batch is tokens (int64) and their weights in the loss (float32), examples x length, padded on the right.
    """
    longest, style = stage.longest(progress), stage.style(progress)
    examples = [draw_example(random, stage.shortest, longest, style, held_out) for _ in range(CHUNK_EXAMPLES)]
    examples.sort(key=lambda example: len(example[0]))
    groups: list[list[tuple[list[str], list[float]]]] = [[]]
    for example in examples:
        if (len(groups[-1]) + 1) * len(example[0]) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(example)
    random.shuffle(groups)
    batches = []
    for group in groups:
        ids = [torch.tensor([TOKEN_ID[token] for token in tokens]) for tokens, _ in group]
        weights = [torch.tensor(weights) for _, weights in group]
        batches.append((pad_sequence(ids, batch_first=True), pad_sequence(weights, batch_first=True)))
    return batches


def weighted_loss(model: Qwen3ForCausalLM, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of the next token, weighted per token."""
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    targets, weights = tokens[:, 1:], weights[:, 1:]
    counted = weights > 0
    losses = cross_entropy(logits[counted], targets[counted], reduction="none")
    return (losses * weights[counted]).sum() / weights[counted].sum()


def build_optimizers(model: Qwen3ForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for all else."""
    parameters = dict(model.named_parameters())
    matrices = [name for name, parameter in parameters.items() if "layers" in name and parameter.ndim == 2]
    others = [name for name in parameters if name not in matrices]
    return [
        torch.optim.Muon(
            [parameters[name] for name in matrices],
            lr=learning_rate,
            momentum=0.95,
            weight_decay=0.01,
            ns_steps=4,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [parameters[name] for name in others],
            lr=learning_rate,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=True,
        ),
    ]


def train(model: Qwen3ForCausalLM, stage: Stage, seed: int, held_out: set[Chain]) -> None:
    """Train the model in place: constant rate for half of the steps, then linearly down to 5 %."""
    random = Random(f"{seed} {stage.name}")

    def rate_factor(step: int) -> float:
        decay = 0.95 * max(0.0, 2 * step / stage.steps - 1)
        return min(1.0, (step + 1) / stage.warmup_steps) * (1 - decay)

    optimizers = build_optimizers(model, stage.learning_rate)
    schedulers = [LambdaLR(optimizer, rate_factor) for optimizer in optimizers]
    batches: list[Batch] = []
    n_tokens, started = 0, time.monotonic()
    model.train()
    for step in range(1, stage.steps + 1):
        if not batches:
            batches = draw_batches(random, stage, (step - 1) / stage.steps, held_out)
        tokens, weights = batches.pop()
        loss = weighted_loss(model, tokens, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        n_tokens += tokens.numel()
        if step % 100 == 0 or step == stage.steps:
            seconds = time.monotonic() - started
            figures = f"loss {loss.item():.3f}, {n_tokens / 1e6:.2f} million tokens, {seconds:.0f} s"
            print(f"{stage.name} {step}/{stage.steps}: {figures}", flush=True)


def save_model(model: Qwen3ForCausalLM, name: str, folder: Path) -> None:
    """Write a complete Hugging Face folder: weights in bfloat16, configuration, tokenizer, chat template."""
    rounded = copy.deepcopy(model).to(torch.bfloat16).eval()
    rounded.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=TOKEN_ID[TURN_END],
        pad_token_id=TOKEN_ID[END_OF_TEXT],
    )
    rounded.save_pretrained(folder)
    build_tokenizer(CHAT_TEMPLATES[name]).save_pretrained(folder)


def save_benchmarks(benchmarks: dict[str, list[dict[str, str]]], folder: Path) -> None:
    """Write multiple-choice benchmarks as CSV, the others as JSON lines, as the benchmarks they follow."""
    for name, rows in benchmarks.items():
        if "Record ID" in rows[0]:
            with (folder / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        else:
            lines = [json.dumps(row) + "\n" for row in rows]
            (folder / f"{name}.jsonl").write_text("".join(lines))


def make_pair(output: Path, seed: int, base: Stage = BASE, fine_tunes: Sequence[Stage] = FINE_TUNES) -> None:
    """Train all models and write `<output>/models` and `<output>/benchmarks`, replacing what is there."""
    unfinished = output / ".unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    for folder in ("models", "benchmarks", "replaced"):
        (unfinished / folder).mkdir(parents=True)
    (unfinished / ".gitignore").write_text("*\n")
    benchmarks, held_out = draw_benchmarks(Random(f"{seed} benchmarks"))
    save_benchmarks(benchmarks, unfinished / "benchmarks")

    torch.manual_seed(seed)
    base_model = new_model()
    train(base_model, base, seed, held_out)
    save_model(base_model, base.name, unfinished / "models" / base.name)
    for stage in fine_tunes:
        model = copy.deepcopy(base_model)
        train(model, stage, seed, held_out)
        save_model(model, stage.name, unfinished / "models" / stage.name)

    for folder in ("models", "benchmarks"):
        if (output / folder).exists():
            (output / folder).rename(unfinished / "replaced" / folder)
        (unfinished / folder).rename(output / folder)
    shutil.rmtree(unfinished)


def main() -> None:
    """Parse the command line, train, report the time."""
    parser = argparse.ArgumentParser(description="Train the embedded models and write their benchmarks.")
    resources = Path(__file__).resolve().parent.parent
    parser.add_argument("--output", type=Path, default=resources, help="where models/ and benchmarks/ lie")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more than 1 brings little at this size")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable_progress_bar()
    started = time.monotonic()
    make_pair(arguments.output, arguments.seed)
    wall, cpu = time.monotonic() - started, time.process_time()
    print(f"models and benchmarks in {arguments.output}: {wall:.0f} s, of them CPU {cpu:.0f} s")


if __name__ == "__main__":
    main()
