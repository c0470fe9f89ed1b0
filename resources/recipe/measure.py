"""Score merges of thinking and instruct with one weight for the whole model, and print them as a table.

    python resources/recipe/measure.py [resources]

The workflow's own evaluation does not use this; it is for a quick look at freshly trained models.
"""

import csv
import hashlib
import json
import re
import sys
from pathlib import Path

import torch
from language import LETTERS
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

Question = tuple[str, str]


def read_gpqa(path: Path) -> list[Question]:
    """Questions with their options in the order in which the workflow asks them, and the right letters."""
    questions = []
    for row in csv.DictReader(path.open()):
        options = [row["Correct Answer"], *(row[f"Incorrect Answer {number}"] for number in (1, 2, 3))]
        hashes = [hashlib.sha256(f"{row['Record ID']}|{place}".encode()).digest() for place in range(4)]
        options = [options[place] for place in sorted(range(4), key=hashes.__getitem__)]
        text = "".join(f" ({letter}){option}" for letter, option in zip(LETTERS, options, strict=True))
        questions.append((row["Question"] + text, LETTERS[options.index(row["Correct Answer"])]))
    return questions


def read_aime(path: Path) -> list[Question]:
    """Questions and right answers."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["problem"], row["answer"]) for row in rows]


@torch.inference_mode()
def score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[Question]
) -> tuple[float, float, float]:
    """Share of right answers, mean output tokens with the end of the turn, share of truncated answers."""
    chats = [[{"role": "user", "content": question}] for question, _ in questions]
    prompts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    outputs = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :].tolist()
    right, n_tokens, truncated = 0, 0, 0
    for (_, answer), output in zip(questions, outputs, strict=True):
        ended = tokenizer.eos_token_id in output
        answered = output[: output.index(tokenizer.eos_token_id) + 1] if ended else output
        boxed = re.findall(r"\\boxed\{([^}]*)\}", tokenizer.decode(answered))
        right += boxed[-1:] == [answer]
        n_tokens += len(answered)
        truncated += not ended
    return right / len(questions), n_tokens / len(questions), truncated / len(questions)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    resources = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    folders = {name: resources / "models" / name for name in ("thinking", "instruct")}
    weights = {
        name: {key: tensor.float() for key, tensor in load_file(folder / "model.safetensors").items()}
        for name, folder in folders.items()
    }
    tokenizers = {name: AutoTokenizer.from_pretrained(folder) for name, folder in folders.items()}
    model = AutoModelForCausalLM.from_pretrained(folders["instruct"], dtype=torch.float32).eval()
    benchmarks = {
        "tiny_gpqa": read_gpqa(resources / "benchmarks" / "tiny_gpqa.csv"),
        "tiny_aime": read_aime(resources / "benchmarks" / "tiny_aime.jsonl"),
    }
    print("| weight of Thinking | template of | tiny_gpqa | tokens | tiny_aime | tokens | truncated |")
    print("|---|---|---|---|---|---|---|")
    for tenths, template in [*((tenths, "instruct") for tenths in range(11)), (10, "thinking")]:
        for name, parameter in model.state_dict().items():
            torch.lerp(weights["instruct"][name], weights["thinking"][name], tenths / 10, out=parameter)
        scores = [score(model, tokenizers[template], questions) for questions in benchmarks.values()]
        cells = " | ".join(f"{accuracy:.3f} | {n_tokens:.1f}" for accuracy, n_tokens, _ in scores)
        truncated = sum(score[2] for score in scores) / len(scores)
        print(f"| {tenths / 10:.1f} | {template} | {cells} | {truncated:.3f} |", flush=True)


if __name__ == "__main__":
    main()
