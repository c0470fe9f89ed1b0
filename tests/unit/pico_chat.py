"""A chat tokenizer of single characters, benchmarks of a few questions, and an engine that says what it is told to."""

import csv
import json
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bambo.evaluation.engine import Output, Request, output_of
from bambo.recipe import make_recipe
from bambo.sources import describe
from pico import make_model, make_pair

SPECIAL = ["<pad>", "<eos>", "<user>", "<assistant>", "<think>", "</think>", "<unk>"]
VOCABULARY = [*SPECIAL, *string.printable]
EOS = SPECIAL.index("<eos>")
TEMPLATE = "{% for message in messages %}<user>{{ message['content'] }}{% endfor %}<assistant>"
THINKING_TEMPLATE = TEMPLATE + "<think>"
GREEDY = {"do_sample": False}
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "top_k": 20, "min_p": 0.0}


def make_tokenizer(template: str | None = TEMPLATE) -> Any:
    from tokenizers import Regex, Tokenizer, decoders
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token="<unk>"))
    inner.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens=SPECIAL[2:6],
    )
    tokenizer.chat_template = template
    return tokenizer


# Of a model that can be asked in this tokenizer.
SIZES = {
    "vocab_size": len(VOCABULARY),
    "num_hidden_layers": 2,
    "max_position_embeddings": 256,
    "eos_token_id": EOS,
    "pad_token_id": 0,
}


def make_chat_model(path: Path, **options: Any) -> None:
    """Save a random model that can be asked."""
    make_model(path, **{**SIZES, **options})
    make_tokenizer().save_pretrained(path)


def make_chat_pair(folder: Path, architecture: str = "qwen3", **options: Any) -> dict[str, Any]:
    """Two of them; returns what sources/<name>.json holds of each: path, fingerprint, sample, groups, ..."""
    paths = make_pair(folder, architecture, **{**SIZES, **options})
    for path in paths.values():
        make_tokenizer().save_pretrained(path)
    return {name: describe(str(path), None) for name, path in paths.items()}


class ScriptedEngine:
    """Answers with `answer(prompt, seed)`: the text, which ends in <eos> unless it is longer than allowed."""

    context_length = 1000
    device_name = "scripted"

    def __init__(
        self, answer: Callable[[str, int], str], template: str = TEMPLATE, chunk_size: int = 2
    ) -> None:
        self.tokenizer = make_tokenizer(template)
        self.answer, self.chunk_size = answer, chunk_size
        self.chunks: list[list[str]] = []

    def generate(self, chunks: Sequence[Sequence[Request]]) -> Iterator[tuple[int, list[Output]]]:
        for place, chunk in enumerate(chunks):
            self.chunks.append([request.prompt for request in chunk])
            yield place, [self._output(request) for request in chunk]

    def _output(self, request: Request) -> Output:
        text = self.answer(request.prompt, request.seed)
        tokens = [*self.tokenizer(text, add_special_tokens=False).input_ids, EOS]
        return output_of(self.tokenizer, tokens[: request.max_tokens], [EOS], seconds=0.25)

    def peak_memory_gb(self) -> float:
        return 0.5

    def close(self) -> None:
        pass


def write_gpqa(path: Path, questions: int = 6) -> Path:
    """Questions `sum n` whose right option is n."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["Record ID", "Question", "Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3))]
        )
        writer.writerows([f"rec{n}", f"sum {n}", f"{n}", f"{n}1", f"{n}2", f"{n}3"] for n in range(questions))
    return path


def write_aime(path: Path, questions: int = 5) -> Path:
    """Problems of growing length, `n` and n spaces, whose answer is n."""
    rows = [{"id": f"a{n}", "problem": f"{n}" + " " * n, "answer": str(n)} for n in range(questions)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def aime_task(folder: Path, **settings: Any) -> dict[str, Any]:
    data = write_aime(folder / "aime.jsonl")
    return {"task": "aime25", "data": str(data), "prompt": "{{problem}}", "max_tokens": 20} | settings


def gpqa_task(folder: Path, **settings: Any) -> dict[str, Any]:
    data = write_gpqa(folder / "gpqa.csv")
    prompt = "{{Question}}|{{choice1}}|{{choice2}}|{{choice3}}|{{choice4}}"
    return {
        "task": "gpqa_diamond_cot_zeroshot",
        "data": str(data),
        "prompt": prompt,
        "max_tokens": 20,
    } | settings


def chat_recipe(tasks: dict[str, dict], **settings: Any) -> dict[str, Any]:
    evaluation = {
        "engine": "hf",
        "seed": 0,
        "repeats": 1,
        "limit": None,
        "sampling": GREEDY,
        "dtype": "float32",
        "tasks": tasks,
    }
    source = {"path": "-", "fingerprint": "f", "sample": "s"}
    return make_recipe({"head": [1.0]}, {"one": source}, "one", evaluation | settings)
