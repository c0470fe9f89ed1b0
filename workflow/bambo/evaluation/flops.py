"""Floating-point operations of an answer, reckoned from the model's shapes: the same on every machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint import EMBEDDINGS, HEAD, Checkpoint, layer_of, open_checkpoint
from ..errors import BadInput

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # what configs call their number


@dataclass(frozen=True)
class Architecture:
    """What decides the operations of a decoder.

    layers: parameters of the matrices in its layers that work on a token, of experts only the share that is chosen.
    head: parameters of the output projection. width: of attention, heads x their size. windows: for each layer with
    attention, how many tokens back it sees (None: all).
    """

    layers: float
    head: int
    width: int
    windows: tuple[int | None, ...]

    def flops(self, prompt: int, output: int) -> float:
        """Operations of answering a prompt of so many tokens with so many, the prompt's own included.

        2 N + 2 n_layer n_ctx d_attn for a token [Kaplan et al. 2020, Scaling Laws for Neural Language Models, section
        2.1]: 2 for each parameter that it meets, 4 d_attn in each layer for each token that it attends to, which is
        half the context in the mean. Here each token's own context is summed. All tokens but the last one go through
        the layers; only those that an output token follows go through the head.
        """
        through = max(prompt + output - 1, 0)
        attended = sum(_attended(through, window) for window in self.windows)
        return 2.0 * self.layers * through + 2.0 * self.head * output + 4.0 * self.width * attended


def _attended(tokens: int, window: int | None) -> int:
    """Tokens that the first, second, ... token attends to, itself included, in all."""
    full = tokens if window is None else min(tokens, window)
    return full * (full + 1) // 2 + (tokens - full) * full


def read_architecture(folder: Path) -> Architecture | None:
    """The architecture of a model folder, from config.json and its weights' headers; None where they do not tell."""
    try:
        return architecture(open_checkpoint(folder))
    except (BadInput, OSError, KeyError, TypeError, ZeroDivisionError):
        return None


def architecture(checkpoint: Checkpoint) -> Architecture:
    """KeyError where config.json lacks what attention's operations are reckoned with."""
    config = checkpoint.config.get("text_config", checkpoint.config)
    share = _expert_share(config)
    matrices = {name: info for name, info in checkpoint.tensors.items() if len(info.shape) > 1}
    heads = {name for name in checkpoint.head_tensors if not checkpoint.tied}
    layers = sum(
        info.parameters * (share if ".experts." in name else 1.0)
        for name, info in matrices.items()
        if layer_of(name) not in (EMBEDDINGS, HEAD)
    )
    head = sum(matrices[name].parameters for name in heads) or config["vocab_size"] * config["hidden_size"]
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return Architecture(layers, head, config["num_attention_heads"] * size, _windows(config))


def _expert_share(config: Mapping[str, Any]) -> float:
    """Share of its experts that a mixture of experts asks for a token."""
    count = next((config[key] for key in EXPERTS if config.get(key)), None)
    return config["num_experts_per_tok"] / count if count else 1.0


def _windows(config: Mapping[str, Any]) -> tuple[int | None, ...]:
    kinds = config.get("layer_types") or ["full_attention"] * config["num_hidden_layers"]
    windows = {"full_attention": None, "sliding_attention": config.get("sliding_window")}
    # Linear attention has no context to go through: its matrices are all that counts.
    return tuple(windows[kind] for kind in kinds if kind in windows)
