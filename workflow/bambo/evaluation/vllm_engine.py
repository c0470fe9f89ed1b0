"""The engine of vLLM, in this process: as many answers at work as its cache holds, each yielded as it is finished."""

import gc
import itertools
import os
import resource
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

# Before vLLM is imported. Without processes of its own for one GPU, so that its weights can be replaced from here.
os.environ["VLLM_COMPUTE_NANS_IN_LOGITS"] = os.environ["VLLM_RAISE_ON_LOGIT_NANS"] = "1"
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_NO_USAGE_STATS"] = "1"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# Evaluations beside this one would bind the same cores.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

import vllm
import vllm._custom_ops
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
from vllm.platforms import current_platform

from ..errors import BadInput
from .devices import cpu_name
from .engine import EvaluationFailed, Machine, Output, Request, output_of
from .folder import read_folder
from .weights import bit_sum

CPU_CACHE = 1 << 30  # bytes


class VLLMEngine:
    """What an answer's batch holds besides decides how its logits are rounded, but not its random numbers."""

    chunk_size = 1

    def __init__(self, model_dir: Path, settings: Mapping[str, Any], machine: Machine) -> None:
        """Load model and tokenizer from a folder.

        Raises BadInput where the folder lacks a part that scoring needs or vLLM does not run on the device,
        EvaluationFailed where the device's memory does not hold the model and its cache.
        """
        self.machine, self.cpu = machine, machine.device == "cpu"
        if self.cpu != current_platform.is_cpu():
            raise BadInput(
                f"evaluation.device: {machine.device}, but this vLLM is made for {current_platform.device_type}"
            )
        self.tokenizer, self.eos, _ = read_folder(model_dir)
        self.device_name = cpu_name() if self.cpu else current_platform.get_device_name()
        options: dict[str, Any] = {"gpu_memory_utilization": machine.memory_share}
        if self.cpu:
            torch.set_num_threads(machine.threads)
            vllm._custom_ops._supports_onednn = (
                False  # which packs weights, so that they could not be compared
            )
            options = {"kv_cache_memory_bytes": CPU_CACHE, "enforce_eager": True}
        with _started():
            self.llm = vllm.LLM(
                str(model_dir),
                **options,
                dtype=settings["dtype"],
                tensor_parallel_size=max(1, machine.gpus),
                max_model_len=machine.model_length
                or -1,  # -1: as many as the cache holds, at most the model's own
                max_num_seqs=machine.batch_size,
                generation_config="vllm",  # nothing of the checkpoint's, which would enter unseen
                enable_prefix_caching=True,
                disable_log_stats=True,
            )
        self.engine = self.llm.llm_engine
        self.context_length = self.engine.model_config.max_model_len
        self.tied = self.engine.model_config.hf_text_config.tie_word_embeddings

    def generate(self, chunks: Sequence[Sequence[Request]]) -> Iterator[tuple[int, list[Output]]]:
        waiting, started = enumerate(chunks), dict[str, float]()
        try:
            while True:
                for place, [request] in itertools.islice(waiting, self.machine.batch_size - len(started)):
                    self._add(str(place), request)
                    started[str(place)] = time.perf_counter()
                if not started:
                    return
                with _running():
                    results = self.engine.step()
                for result in results:
                    if result.finished:
                        seconds = time.perf_counter() - started.pop(result.request_id)
                        yield int(result.request_id), [self._output(result, seconds)]
        finally:
            self.engine.abort_request(list(started))

    def _add(self, name: str, request: Request) -> None:
        sampling = {"temperature": 0.0}
        if request.sampling["do_sample"]:
            sampling = {key: request.sampling[key] for key in ("temperature", "top_p", "top_k", "min_p")}
        parameters = vllm.SamplingParams(
            **sampling,
            seed=request.seed,
            max_tokens=request.max_tokens,
            stop_token_ids=sorted(self.eos),
            ignore_eos=True,  # the tokenizer's own
            detokenize=False,
        )
        [prompt] = self.engine.renderer.render_cmpl([{"prompt_token_ids": request.tokens}])
        self.engine.add_request(name, prompt, parameters)

    def _output(self, result: Any, seconds: float) -> Output:
        [answer] = result.outputs
        output = output_of(self.tokenizer, answer.token_ids, self.eos, seconds)
        if {"stop": "eos"}.get(answer.finish_reason, answer.finish_reason) != output.finish_reason:
            raise EvaluationFailed("error", f"vLLM ended an answer with {answer.finish_reason!r}")
        return output

    def load_weights(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        if self.machine.gpus > 1:
            raise BadInput(
                "evaluation.candidates_per_job: vllm replaces weights on one GPU only; set it and merge.materialize to "
                "1 and true, or resources.evaluate.gpu to 1"
            )
        given = 0

        def counted() -> Iterator[tuple[str, torch.Tensor]]:
            nonlocal given
            for name, tensor in tensors:
                if not (self.tied and name == "lm_head.weight"):
                    given += bit_sum(tensor.to(self.engine.model_config.dtype))
                yield name, tensor

        try:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": counted()})
        except (KeyError, ValueError) as error:
            raise BadInput(f"vLLM cannot load these weights: {_line(error)}") from None
        if given % 2**64 != self.weights_sum():
            raise EvaluationFailed("error", "the weights that vLLM holds are not those that were merged")
        if not self.llm.reset_prefix_cache():
            raise EvaluationFailed(
                "error", "vLLM did not forget what it kept of prompts under the old weights"
            )

    def weights_sum(self) -> int:
        """`bit_sum` over all parameters, each counted once."""
        [total] = self.llm.apply_model(lambda model: sum(bit_sum(each) for each in model.parameters()))
        return total % 2**64

    def close(self) -> None:
        """Free the GPUs' memory, end worker processes."""
        self.engine.engine_core.shutdown()
        del self.llm, self.engine
        gc.collect()
        cleanup_dist_env_and_memory()

    def peak_memory_gb(self) -> float:
        """Peak of the GPU's memory, its cache included; of several GPUs what all hold now; on a CPU the process's."""
        if self.cpu:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        if self.machine.gpus <= 1:
            return torch.cuda.max_memory_allocated() / 1e9
        free_and_total = [torch.cuda.mem_get_info(gpu) for gpu in range(self.machine.gpus)]
        return sum(total - free for free, total in free_and_total) / 1e9


@contextmanager
def _started() -> Iterator[None]:
    """Says what to do where the memory does not hold all that vLLM makes room for at its start."""
    try:
        with _running():
            yield
    except ValueError as error:
        text = _line(error)
        if "Free memory on device" in text:
            remedy = "lower evaluation.memory_share, or free the GPU"
        elif "KV cache" in text or "cache blocks" in text:
            remedy = "lower evaluation.model_length, or raise evaluation.memory_share"
        elif "max_model_len" in text:
            raise BadInput(f"evaluation.model_length: {text}; lower it") from None
        else:
            raise
        raise EvaluationFailed("out of memory", f"{text}; {remedy}") from None


@contextmanager
def _running() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error):
            remedy = "lower evaluation.memory_share or evaluation.batch_size"
            raise EvaluationFailed("out of memory", f"{_line(error)}; {remedy}") from None
        if "NaN" in str(error):
            raise EvaluationFailed(
                "bad scores", "logits are NaN: the weights are broken, or too large for evaluation.dtype"
            ) from None
        raise


def _line(error: Exception) -> str:
    """The first sentence of what vLLM says, in one line."""
    return " ".join(str(error).split()).split(". ")[0]
