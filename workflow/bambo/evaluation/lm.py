"""The language model that lm-evaluation-harness asks: it counts tokens where they are made and keeps every answer."""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from ..errors import BadInput
from ..files import content_hash
from .answers import append_answers, read_answers
from .energy import Meter
from .engine import Engine, EvaluationFailed, Output, Request
from .extraction import answer_text, before


@dataclass
class Question:
    """One question to be answered once."""

    task: str  # the harness's name
    benchmark: str
    doc_id: int
    request: Request
    until: list[str]  # stop strings: where the answer ends that is scored; nothing stops the model


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
        answers: Path,
        earlier: tuple[str, Path] | None = None,
        meter: Meter | None = None,
    ) -> None:
        """earlier: the candidate of which this is the second stage, and its answers."""
        super().__init__()
        self.engine, self.tokenizer = engine, engine.tokenizer
        self.candidate, self.tasks, self.seed, self.answers = candidate, tasks, seed, answers
        self.earlier = earlier
        self.first: dict[str, int] = {}  # benchmark -> how many of its questions are asked first
        self.meter = meter
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
        if self.earlier is not None:
            stored = read_answers(self.earlier[1]) | stored
        waiting = {}
        for chunk in chunks(questions, self.engine.chunk_size, self._late):
            late = any(map(self._late, chunk))
            candidate = self.candidate if late or self.earlier is None else self.earlier[0]
            key = content_hash([candidate, [question.request._replace(tokens=[]) for question in chunk]])
            if key not in stored:
                waiting[key] = chunk
                continue
            self._keep(chunk, stored[key])
            self.stored_cost.update(stored[key]["cost"])
        for key, entry in self._generated(waiting):
            append_answers(self.answers, entry)
            self._keep(waiting[key], entry)
            print(
                f"{len(self.rows)} of {len(questions)} answers, {self.cost['tokens']} tokens",
                file=sys.stderr,
                flush=True,
            )
        if len(self.rows) < len(questions):
            raise EvaluationFailed(
                "error", f"{len(self.rows)} of {len(questions)} answers came back from the engine"
            )
        return [self.rows[question.task, question.doc_id]["answer"] for question in questions]

    def _question(self, request: Instance) -> Question:
        prompt, generation = request.args
        tokens = self.tokenizer(prompt, add_special_tokens=False).input_ids
        benchmark, repeat = self.tasks[request.task_name]
        sampling = {key: value for key, value in generation.items() if key not in ("until", "max_gen_toks")}
        max_tokens, limit = generation["max_gen_toks"], self.engine.context_length
        if limit is not None and len(tokens) + max_tokens > limit:
            raise BadInput(
                f"evaluation.tasks.{benchmark}.max_tokens: a prompt of {len(tokens)} tokens and an answer of "
                f"{max_tokens} exceed the model's context of {limit}; lower it"
            )
        seed = _seed(self.seed, benchmark, request.doc_id, repeat)
        return Question(
            request.task_name,
            benchmark,
            request.doc_id,
            Request(prompt, tokens, max_tokens, sampling, seed),
            generation["until"],
        )

    def _late(self, question: Question) -> bool:
        """Whether a question is asked in the second stage alone."""
        return question.doc_id >= self.first.get(question.benchmark, question.doc_id + 1)

    def _generated(self, waiting: Mapping[str, list[Question]]) -> Iterator[tuple[str, dict]]:
        """Key and entry of each chunk, as it is finished."""
        keys = list(waiting)
        start, start_cpu, start_joules = time.perf_counter(), time.process_time(), self._joules()
        requests = [[question.request for question in chunk] for chunk in waiting.values()]
        for place, outputs in self.engine.generate(requests):
            now, now_cpu, now_joules = time.perf_counter(), time.process_time(), self._joules()
            cost = {
                "seconds": now - start,
                "cpu_seconds": now_cpu - start_cpu,
                "tokens": sum(output.tokens for output in outputs),
                "joules": now_joules - start_joules,
                "unmetered": int(self.meter is None),
            }
            start, start_cpu, start_joules = now, now_cpu, now_joules
            yield keys[place], {"key": keys[place], "outputs": outputs, "cost": cost}

    def _joules(self) -> float:
        return 0.0 if self.meter is None else self.meter()

    def _keep(self, chunk: Sequence[Question], entry: Mapping[str, Any]) -> None:
        self.cost.update(entry["cost"])
        for question, values in zip(chunk, entry["outputs"], strict=True):
            output = Output(*values)
            truncated = output.finish_reason == "length"
            answer = answer_text(output.text, question.request.prompt, truncated=truncated)
            self.rows[question.task, question.doc_id] = {
                "output_tokens": output.tokens,
                "prompt_tokens": len(question.request.tokens),
                "finish_reason": output.finish_reason,
                "seconds": output.seconds,
                "text": output.text,
                "answer": before(answer, question.until) if question.until else answer,
            }


def chunks(
    questions: Iterable[Question], size: int, late: Callable[[Question], bool]
) -> list[list[Question]]:
    """Questions in chunks of `size`, each of one benchmark and one stage, prompts of similar length together."""
    groups: dict[tuple[str, bool], list[Question]] = {}
    for question in questions:
        groups.setdefault((question.benchmark, late(question)), []).append(question)
    ordered = [sorted(group, key=lambda question: len(question.request.tokens)) for group in groups.values()]
    return [group[start : start + size] for group in ordered for start in range(0, len(group), size)]


def _seed(*parts: Any) -> int:
    """A seed of 63 bits from the hash of `parts`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
