"""The language model that lm-evaluation-harness asks: it counts tokens where they are made and keeps every answer."""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from ..errors import BadInput
from ..files import content_hash
from .answers import append_answers, read_answers
from .engine import Engine, Output
from .extraction import answer_text


@dataclass
class Question:
    """One question to be answered once."""

    task: str  # the harness's name
    benchmark: str
    doc_id: int
    prompt: str
    tokens: list[int]
    generation: dict  # max_gen_toks, and how to sample
    seed: int


class CountingLM(LM):
    """Answers all questions in fixed chunks; `rows` holds one dict an answer, by (task, doc_id).

    A chunk is made of the whole list of questions, whatever is already answered, and is stored as soon as it is
    finished. Seeds come from (benchmark, question, repeat) alone: all candidates are compared on paired draws.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        candidate: str,
        tasks: Mapping[str, tuple[str, int]],  # the harness's name -> benchmark, repeat
        seed: int,
        batch_size: int,
        answers: Path,
    ) -> None:
        super().__init__()
        self.engine, self.tokenizer = engine, engine.tokenizer
        self.candidate, self.tasks, self.seed = candidate, tasks, seed
        self.batch_size, self.answers = batch_size, answers
        self.rows: dict[tuple[str, int], dict] = {}
        # Generation in all, and the part of it that an earlier, killed evaluation did.
        self.cost, self.stored_cost = Counter[str](), Counter[str]()

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path

    def chat_template(self, chat_template: bool | str = False) -> str:
        return self.tokenizer.chat_template

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("tasks that generate text only")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise NotImplementedError("tasks that generate text only")

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers without their thinking, in the order of the requests."""
        questions = [self._question(request) for request in requests]
        stored = read_answers(self.answers)
        answered = 0
        for chunk in chunks(questions, self.batch_size):
            answered += len(chunk)
            entry = self._entry(chunk, stored)
            for question, output in zip(chunk, entry["outputs"], strict=True):
                self._keep(question, Output(*output))
            self.cost.update(entry["cost"])
            print(
                f"{answered} of {len(questions)} answers, {self.cost['tokens']} tokens",
                file=sys.stderr,
                flush=True,
            )
        return [self.rows[question.task, question.doc_id]["answer"] for question in questions]

    def _question(self, request: Instance) -> Question:
        prompt, generation = request.args
        tokens = self.tokenizer(prompt, add_special_tokens=False).input_ids
        benchmark, repeat = self.tasks[request.task_name]
        longest, limit = len(tokens) + generation["max_gen_toks"], self.engine.context_length
        if limit is not None and longest > limit:
            raise BadInput(
                f"evaluation.tasks.{benchmark}.max_tokens: a prompt of {len(tokens)} tokens and an answer of "
                f"{generation['max_gen_toks']} exceed the model's context of {limit}; lower it"
            )
        seed = _seed(self.seed, benchmark, request.doc_id, repeat)
        return Question(request.task_name, benchmark, request.doc_id, prompt, tokens, generation, seed)

    def _entry(self, chunk: list[Question], stored: Mapping[str, dict]) -> dict:
        generation = {key: value for key, value in chunk[0].generation.items() if key != "until"}
        key = content_hash(
            [self.candidate, generation, [[question.prompt, question.seed] for question in chunk]]
        )
        if key in stored:
            self.stored_cost.update(stored[key]["cost"])
            return stored[key]
        start, start_cpu = time.perf_counter(), time.process_time()
        max_tokens = generation.pop("max_gen_toks")
        seeds = [question.seed for question in chunk]
        outputs = self.engine.generate([question.tokens for question in chunk], max_tokens, generation, seeds)
        cost = {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - start_cpu,
            "tokens": sum(len(output.tokens) for output in outputs),
        }
        entry = {"key": key, "outputs": outputs, "cost": cost}
        append_answers(self.answers, entry)
        return entry

    def _keep(self, question: Question, output: Output) -> None:
        text = self.tokenizer.decode(output.tokens, skip_special_tokens=False)
        ended = output.finish_reason == "eos"
        body = self.tokenizer.decode(output.tokens[:-1], skip_special_tokens=False) if ended else text
        self.rows[question.task, question.doc_id] = {
            "output_tokens": len(output.tokens),
            "prompt_tokens": len(question.tokens),
            "finish_reason": output.finish_reason,
            "text": text,
            "answer": answer_text(body, question.prompt, truncated=output.finish_reason == "length"),
        }


def chunks(questions: Iterable[Question], size: int) -> list[list[Question]]:
    """Questions in chunks of `size`, each of one benchmark, prompts of similar length together."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.benchmark, []).append(question)
    ordered = [sorted(group, key=lambda question: len(question.tokens)) for group in groups.values()]
    return [group[start : start + size] for group in ordered for start in range(0, len(group), size)]


def _seed(*parts: Any) -> int:
    """A seed of 63 bits from the hash of `parts`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
