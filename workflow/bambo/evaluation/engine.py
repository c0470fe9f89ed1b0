"""What an engine owes the language model of the harness; each engine is a module of its own."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class EvaluationFailed(RuntimeError):
    """The model could not be scored; `kind` is "out of memory" or "bad scores", the message one line."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Output(NamedTuple):
    """What an engine made of one prompt."""

    tokens: list[
        int
    ]  # every token emitted, thinking and the final end-of-sequence token included, no padding
    finish_reason: str  # "eos", "stop" (a stop string) or "length" (the token limit)


class Engine(Protocol):
    tokenizer: Any  # a tokenizer of transformers
    context_length: int | None  # most tokens of prompt and output together

    def generate(
        self, prompts: Sequence[list[int]], max_tokens: int, sampling: dict, seeds: Sequence[int]
    ) -> list[Output]:
        """Complete one chunk of prompts (token ids); one seed a prompt, used where `sampling` samples."""
        ...

    def peak_memory_gb(self) -> float: ...
