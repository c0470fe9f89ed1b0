"""The engine of transformers: `model.generate` on left-padded chunks."""

import resource
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.initialization import no_init_weights

from ..errors import BadInput
from .devices import cpu_name
from .engine import EvaluationFailed, Machine, Output, Request, output_of
from .folder import read_folder
from .weights import bit_sum


class HFEngine:
    def __init__(self, model_dir: Path, settings: Mapping[str, Any], machine: Machine) -> None:
        """Load model and tokenizer from a folder.

        Raises BadInput where the folder lacks a part that scoring needs or there is no such device, EvaluationFailed
        where the device's memory does not hold the model.
        """
        torch.set_num_threads(machine.threads)
        self.chunk_size = machine.batch_size
        self.device, self.device_name = open_device(machine.device)
        self.tokenizer, self.eos, length = read_folder(model_dir)
        self.context_length = machine.model_length or length
        with memory_errors("use a device with more"):
            self.model = load_model(model_dir, settings["dtype"]).to(self.device).eval()
        pad = self.tokenizer.pad_token_id
        self.pad = min(self.eos) if pad is None else pad
        # Nothing but what the recipe says: a checkpoint's own penalties and temperature would enter unseen.
        self.model.generation_config = GenerationConfig(eos_token_id=sorted(self.eos), pad_token_id=self.pad)

    def generate(self, chunks: Sequence[Sequence[Request]]) -> Iterator[tuple[int, list[Output]]]:
        for place, chunk in enumerate(chunks):
            start = time.perf_counter()
            rows = self._complete(chunk)
            seconds = time.perf_counter() - start
            yield place, [output_of(self.tokenizer, row, self.eos, seconds) for row in rows]

    def _complete(self, chunk: Sequence[Request]) -> list[list[int]]:
        """Token ids that follow each prompt, padded after their end; one number of tokens and one sampling a chunk."""
        prompts = [request.tokens for request in chunk]
        width = max(len(prompt) for prompt in prompts)
        padding = [width - len(prompt) for prompt in prompts]
        ids = [[self.pad] * gap + prompt for gap, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in padding]
        finite = Finite()
        draws = sampler(chunk[0].sampling, [request.seed for request in chunk], self.device)
        with memory_errors(f"lower evaluation.batch_size, here {len(prompts)}"), torch.inference_mode():
            output = self.model.generate(
                input_ids=torch.tensor(ids, device=self.device),
                attention_mask=torch.tensor(mask, device=self.device),
                max_new_tokens=chunk[0].max_tokens,
                do_sample=False,  # sampling is the last processor's noise
                logits_processor=LogitsProcessorList([finite, *draws]),
            )
        if not finite:
            raise EvaluationFailed(
                "bad scores",
                "logits are NaN or infinite: the weights are broken, or too large for evaluation.dtype",
            )
        return output[:, width:].tolist()

    def load_weights(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        own = self.model.state_dict()  # views of the parameters; a tied head has two names
        given: dict[int, int] = {}
        for name, tensor in tensors:
            if name not in own or own[name].shape != tensor.shape:
                raise BadInput(
                    f"tensor {name}: {type(self.model).__name__} has none of this name and shape once it is loaded, so "
                    "it cannot be merged into; set evaluation.candidates_per_job: 1 and merge.materialize: true"
                )
            own[name].copy_(tensor)
            given[own[name].data_ptr()] = bit_sum(tensor.to(own[name].dtype))
        held = {parameter.data_ptr(): parameter for parameter in self.model.parameters()}
        missing = [name for name, tensor in own.items() if tensor.data_ptr() in held.keys() - given.keys()]
        if missing:
            raise BadInput(f"no tensor {missing[0]}, which the loaded model needs; merge it again")
        loaded = sum(bit_sum(parameter) for parameter in held.values()) % 2**64
        if loaded != sum(given[place] for place in held) % 2**64:
            raise EvaluationFailed("error", "the loaded weights are not those that were merged")
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def close(self) -> None:
        """Nothing outlives the process."""

    def peak_memory_gb(self) -> float:
        """Peak of the GPU's memory, on a CPU of the process's."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def open_device(name: str) -> tuple[torch.device, str]:
    """The device, and what its maker calls it."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"evaluation.device: {name!r}, expected cpu, cuda or cuda:<number>") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"evaluation.device: {name}, but torch finds {torch.cuda.device_count()} GPUs; correct it or take cpu"
        )
    return device, torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def load_model(model_dir: Path, dtype: str) -> Any:
    """The model of a folder, on the CPU; BadInput where its file lacks a tensor."""
    auto: Any = AutoModelForCausalLM
    with no_init_weights():  # all of them are in the file
        model, loaded = auto.from_pretrained(
            model_dir, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    if loaded["missing_keys"]:
        raise BadInput(
            f"{model_dir}: no tensor {min(loaded['missing_keys'])}, which the model needs; merge it again"
        )
    return model


@contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """One line where the device runs out of memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EvaluationFailed("out of memory", f"{str(error).splitlines()[0]}; {remedy}") from None


class Finite(LogitsProcessor):
    """False once any logit was NaN or infinite; the flag stays on the device, so that no step waits for it."""

    def __init__(self) -> None:
        self.flag: torch.Tensor | bool = True

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.flag = self.flag & scores.isfinite().all()
        return scores

    def __bool__(self) -> bool:
        return bool(self.flag)


def sampler(sampling: dict, seeds: Sequence[int], device: torch.device) -> list[LogitsProcessor]:
    """Processors after which the argmax is a draw from the model's distribution under `sampling`; none if greedy.

    sampling: do_sample, and where true temperature, top_k (0: off), top_p (1: off), min_p (0: off), applied in this
    order. seeds: one a row.
    """
    if not sampling["do_sample"]:
        return []
    warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(float(sampling["temperature"]))]
    if sampling["top_k"] > 0:
        warpers.append(TopKLogitsWarper(sampling["top_k"]))
    if sampling["top_p"] < 1:
        warpers.append(TopPLogitsWarper(sampling["top_p"]))
    if sampling["min_p"] > 0:
        warpers.append(MinPLogitsWarper(sampling["min_p"]))
    return [*warpers, GumbelNoise(seeds, device)]


class GumbelNoise(LogitsProcessor):
    """Adds standard Gumbel noise, each row from a generator of its own.

    The argmax of logits + noise is an exact draw from their softmax (Gumbel-max trick), independent of what else is
    in the batch; with equal seeds, models of similar distributions draw mostly equal tokens.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.empty_like(scores)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores - noise.log()
