"""What an engine owes the language model of the harness; each engine is a module of its own."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch


class EvaluationFailed(RuntimeError):
    """The model could not be scored; `kind` is "out of memory", "bad scores" or "error", the message one line."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Machine:
    """What an evaluation may take of the machine it runs on; none of it decides scores."""

    device: str = "cpu"  # or cuda, or cuda:<number>
    gpus: int = 0  # that `device` stands for: engines that can split a model over them
    threads: int = 1  # of the CPU
    batch_size: int = 32  # prompts at work together
    memory_share: float = 0.9  # of the GPU's memory, for engines that take it at the start
    model_length: int | None = None  # tokens of prompt and answer to make room for; None is the model's own
    pause: tuple[float, float] = (0.0, 0.0)  # of simulated ones: median (s), sd of its logarithm

    def record(self) -> dict[str, Any]:
        """What scores say of it: nothing of pauses, which real ones do not make."""
        return {key: value for key, value in asdict(self).items() if key != "pause"}


class Request(NamedTuple):
    """One prompt to complete once."""

    prompt: str  # the chat template applied
    tokens: list[int]  # the same in token ids
    max_tokens: int
    sampling: dict  # do_sample, and where true temperature, top_p (1: off), top_k (0: off), min_p (0: off)
    seed: int  # of 63 bits, used where `sampling` draws


class Output(NamedTuple):
    """What an engine made of one prompt."""

    text: str  # all that was emitted, thinking and special tokens included, but for the final end-of-sequence token
    tokens: int  # emitted, thinking and the final end-of-sequence token included, no padding
    finish_reason: str  # "eos" or "length" (the token limit)
    seconds: float  # wall-clock time from the start of work on the prompt to its last token


class Engine(Protocol):
    """Made by `Class(model_dir: Path, settings: Mapping, machine: Machine)`, settings being a recipe's `evaluation`."""

    tokenizer: Any  # a tokenizer of transformers
    device_name: str  # as its maker calls it: "NVIDIA H100 80GB HBM3"
    context_length: int | None  # most tokens of prompt and output together
    # Prompts that are completed, stored and after a kill done again together. More than 1 where an answer may depend on
    # what else is in its batch, so that the batches must be the same again.
    chunk_size: int

    def generate(self, chunks: Sequence[Sequence[Request]]) -> Iterator[tuple[int, list[Output]]]:
        """Complete all prompts; yields (place in `chunks`, outputs of that chunk) as each chunk is finished."""
        ...

    def load_weights(self, tensors: Iterable[tuple[str, "torch.Tensor"]]) -> None:
        """Replace all weights by those of another model of the same architecture, under the names of its checkpoint.

        What was kept of prompts under the old ones is forgotten. BadInput where the engine cannot tell which of its
        weights a tensor stands for; EvaluationFailed where it then holds others than it was given.
        """
        ...

    def peak_memory_gb(self) -> float: ...

    def close(self) -> None:
        """Free what outlives the process otherwise: servers, worker processes."""
        ...


def output_of(tokenizer: Any, tokens: Sequence[int], eos: Collection[int], seconds: float) -> Output:
    """The output of token ids as a model emitted them; all after the first of `eos` is padding."""
    for place, token in enumerate(tokens):
        if token in eos:
            text = tokenizer.decode(tokens[:place], skip_special_tokens=False)
            return Output(text, place + 1, "eos", seconds)
    return Output(tokenizer.decode(tokens, skip_special_tokens=False), len(tokens), "length", seconds)
