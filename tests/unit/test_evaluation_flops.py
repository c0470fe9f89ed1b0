"""Reckoned operations against those that torch counts, and closed forms."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bambo.evaluation.flops import Architecture, read_architecture
from hypothesis import given
from hypothesis import strategies as st
from pico import make_model, write_checkpoint
from torch.utils.flop_counter import FlopCounterMode


def counted(model: Any, tokens: int) -> int:
    """Operations of `tokens` tokens one by one, each attending to those before it and itself."""
    cache = None
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        for token in range(tokens):
            step = model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
            cache = step.past_key_values
    return counter.get_total_flops()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["qwen3", "llama", "qwen3_moe"])
def test_an_answer_takes_what_torch_counts(tmp_path: Path, name: str, tied: bool) -> None:
    options = {"attn_implementation": "eager"}
    if name == "qwen3_moe":
        options["experts_implementation"] = "eager"
    model = make_model(tmp_path / "model", name, tied=tied, **options)
    found = read_architecture(tmp_path / "model")
    assert found is not None
    # Of a prompt of one token and 9 of output, 9 go through the layers and through the head.
    assert found.flops(1, 9) == pytest.approx(counted(model, 9), rel=1e-9)


def test_a_window_bounds_what_a_token_attends_to(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention", "linear_attention"]
    config = {
        "num_attention_heads": 2,
        "hidden_size": 4,
        "vocab_size": 7,
        "layer_types": kinds,
        "sliding_window": 3,
    }
    tensors = {f"model.layers.{i}.mlp.weight": torch.zeros(4, 4) for i in range(3)}
    tensors |= {"model.embed_tokens.weight": torch.zeros(7, 4), "lm_head.weight": torch.zeros(7, 4)}
    found = read_architecture(write_checkpoint(tmp_path / "model", tensors, config))
    assert found == Architecture(layers=48, head=28, width=4, windows=(3, None))
    attended = (1 + 2 + 3 + 3 + 3) + (1 + 2 + 3 + 4 + 5)
    assert found.flops(3, 3) == 2 * 48 * 5 + 2 * 28 * 3 + 4 * 4 * attended


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 60))
def test_operations_grow_with_tokens_and_with_the_window(prompt: int, output: int, window: int) -> None:
    def flops(window: int | None, prompt: int, output: int) -> float:
        return Architecture(100, 10, 8, (window, None)).flops(prompt, output)

    assert flops(window, prompt, output) <= flops(window + 1, prompt, output) <= flops(None, prompt, output)
    assert flops(window, prompt, output) < flops(window, prompt, output + 1)
    assert flops(window, prompt, output) < flops(window, prompt + 1, output)


def test_what_config_and_headers_do_not_tell_is_not_known(tmp_path: Path) -> None:
    assert read_architecture(tmp_path / "nowhere") is None
    tensors = {"model.layers.0.mlp.weight": torch.zeros(4, 4)}
    assert read_architecture(write_checkpoint(tmp_path / "model", tensors)) is None


def test_the_demo_pair_is_known() -> None:
    root = Path(__file__).parents[2] / "resources/models"
    one, other = (read_architecture(root / name) for name in ("thinking", "instruct"))
    assert one == other
    assert one is not None
    assert len(one.windows) == 12
