"""The engine of transformers' continuous batching: a finished answer makes room for the next prompt at once."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.logits_process import LogitsProcessorList

from .engine import EvaluationFailed, Machine, Output, Request, output_of
from .hf import HFEngine, memory_errors, sampler

PAGE = 32  # tokens of a page of the cache, on a CPU
PREFILL = 512  # prompt tokens of one step, on a CPU
REMEDY = "lower evaluation.batch_size or evaluation.memory_share"
BITS = (1 << 32) - 1


class ContinuousEngine(HFEngine):
    """What an answer's batch holds besides decides how its logits are rounded, but not its random numbers."""

    def __init__(self, model_dir: Path, settings: Mapping[str, Any], machine: Machine) -> None:
        super().__init__(model_dir, settings, machine)
        self.machine, self.chunk_size = machine, 1

    def generate(self, chunks: Sequence[Sequence[Request]]) -> Iterator[tuple[int, list[Output]]]:
        requests = [(place, request) for place, [request] in enumerate(chunks)]
        for sampling, group in itertools.groupby(requests, key=lambda each: each[1].sampling):
            yield from self._stream(dict(group), sampling)

    def _stream(self, requests: dict[int, Request], sampling: dict) -> Iterator[tuple[int, list[Output]]]:
        """Place and output of each prompt as it is finished; all are drawn by one sampling."""
        seeds = {str(place): request.seed for place, request in requests.items()}
        rows = Rows(seeds, sampler(sampling, [], self.device)[:-1], self.device)
        manager = self._manager(list(requests.values()), rows)
        waiting, working = iter(requests.items()), 0
        manager.start()
        try:
            while True:
                for place, request in itertools.islice(waiting, self.machine.batch_size - working):
                    manager.add_request(request.tokens, str(place), max_new_tokens=request.max_tokens)
                    working += 1
                if not working:
                    return
                result = manager.get_result(timeout=1)
                if result is None and manager.is_running():
                    continue
                _check(manager, result, rows)
                working -= 1
                start, end = result.lifespan
                output = output_of(self.tokenizer, result.generated_tokens, self.eos, end - start)
                yield int(result.request_id), [output]
        finally:
            manager.stop(hard_stop=True)
            manager.destroy()

    def _manager(self, requests: Sequence[Request], rows: "Rows") -> Any:
        """A manager that has its cache, and has not started."""
        longest = max(len(request.tokens) + request.max_tokens for request in requests)
        size = min(self.machine.batch_size, len(requests))
        cache: dict[str, Any] = {"max_memory_percent": self.machine.memory_share}
        if self.device.type == "cpu":  # where the default takes all memory
            blocks = size * (longest // PAGE + 2)
            cache = {"page_size": PAGE, "num_blocks": blocks, "max_batch_tokens": max(PREFILL, size)}
        config = ContinuousBatchingConfig(
            **cache,
            max_requests_per_batch=size,
            auto_switch_to_flash=self.model.dtype != torch.float32,  # which flash attention does not take
        )
        generation = GenerationConfig(eos_token_id=sorted(self.eos), pad_token_id=self.pad, do_sample=False)
        with memory_errors(REMEDY):
            manager = self.model.init_continuous_batching(generation, config)
            manager.logit_processor = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([rows]))
            manager.logit_processor.tensors_required = 1
            manager.warmup()
        room = manager.batch_processor.cache.num_blocks * manager.continuous_batching_config.page_size
        if room < longest:
            raise EvaluationFailed(
                "out of memory",
                f"the cache has room for {room} tokens, prompt and answer may have {longest}; raise "
                "evaluation.memory_share or lower evaluation.max_tokens",
            )
        return manager


def _check(manager: Any, result: Any, rows: "Rows") -> None:
    """EvaluationFailed unless `result` is an answer, and every logit so far was a number."""
    if not rows.finite:
        raise EvaluationFailed(
            "bad scores",
            "logits are NaN or infinite: the weights are broken, or too large for evaluation.dtype",
        )
    fatal = manager.background_thread_status.fatal_error
    if isinstance(fatal, torch.OutOfMemoryError):
        raise EvaluationFailed("out of memory", f"{str(fatal).splitlines()[0]}; {REMEDY}")
    if result is None or result.error is not None:
        reason = fatal or (result and result.error) or "generation ended"
        raise EvaluationFailed("error", f"continuous batching: {' '.join(str(reason).split())}")


class Rows(ContinuousBatchingLogitsProcessor):
    """Checks the logits of each step; where tokens are drawn, warps them and adds each row's own noise.

    The argmax of logits + Gumbel noise is an exact draw from their softmax. The noise is a function of the request's
    seed, the position and the token: it depends on no other request, and is the same where one is done again.
    """

    supported_kwargs: dict[str, type] = {}  # noqa: RUF012  as in the base class
    ignored_kwargs = ()

    def __init__(self, seeds: Mapping[str, int], warpers: Sequence[Any], device: torch.device) -> None:
        """seeds: by request. warpers: what is done to logits before a token is drawn; none takes the likeliest."""
        self.seeds, self.warpers = seeds, warpers
        self.flag = torch.ones(
            (), dtype=torch.bool, device=device
        )  # changed in place: it is part of CUDA graphs

    @property
    def finite(self) -> bool:
        """Whether every logit so far was a number."""
        return bool(self.flag)

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()  # the key of rows that are padding

    def prepare_tensor_args(self, requests_with_new_token: list) -> torch.Tensor:
        states = [request.state for request in requests_with_new_token]
        keys = [_key(self.seeds.get(state.request_id, 0), state.position_offset) for state in states]
        return torch.tensor(keys, dtype=torch.int64).to(torch.int32)  # keeps the lower 32 bits

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        keys = tensor_arg[: scores.size(0), None]
        self.flag.logical_and_((scores.isfinite() | (keys == 0)).all())
        for warper in self.warpers:
            scores = warper(None, scores)
        return scores + gumbel(keys, scores.size(-1)) if self.warpers else scores


def _key(seed: int, position: int) -> int:
    """32 bits, not all zero, that differ from position to position and from seed to seed (the end of splitmix64)."""
    bits = (seed + position * 0x9E3779B97F4A7C15) % 2**64
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
    return (bits ^ bits >> 31) & BITS or 1


def gumbel(keys: torch.Tensor, size: int) -> torch.Tensor:
    """Standard Gumbel noise of `size` numbers a row, without a generator: a hash of key and column.

    keys: rows x 1, of 32 bits.
    """
    columns = _mix(torch.arange(size, device=keys.device))
    uniform = (_mix(columns + keys & BITS) + 0.5) / 2**32
    return -torch.log(-torch.log1p(-uniform.clamp(max=1 - 2**-24)))


def _mix(bits: torch.Tensor) -> torch.Tensor:
    """A hash of 32 bits held in 64: xor-shifts and odd multipliers by C. Wellons' search for low bias."""
    bits = (bits ^ bits >> 16) * 0x7FEB352D & BITS
    bits = (bits ^ bits >> 15) * 0x846CA68B & BITS
    return bits ^ bits >> 16
