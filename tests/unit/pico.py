"""Checkpoints of true architectures and no size, for tests that load, merge and generate with real code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from bambo.checkpoint import groups, open_checkpoint
from bambo.run import Run
from bambo.sources import describe
from safetensors.torch import save_file

SIZES = {
    "vocab_size": 48,
    "hidden_size": 16,
    "num_hidden_layers": 12,  # two digits: layers.1 is not layers.10
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
GATED = {**SIZES, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 24}
# By transformers' model_type; GPT-2 and GPT-Neo know these names as aliases of their own.
ARCHITECTURES = {
    "qwen3": GATED,
    "llama": GATED,
    "mistral": GATED,
    "qwen2": GATED,
    "qwen3_moe": {**GATED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8},
    "gemma3_text": {**GATED, "query_pre_attn_scalar": 8, "sliding_window": 8},
    "phi3": {**GATED, "pad_token_id": 1},
    "gpt2": SIZES,
    "gpt_neo": {**SIZES, "intermediate_size": 24, "window_size": 8},
    "gpt_neox": {**SIZES, "intermediate_size": 24},
}


def make_model(
    path: Path,
    architecture: str = "qwen3",
    *,
    tied: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "5GB",
    **config: Any,
) -> Any:
    """Save a random model of `architecture` to the folder `path`, without a tokenizer; returns it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    options = {**ARCHITECTURES[architecture], "tie_word_embeddings": tied, **config}
    if architecture == "gpt_neo":
        options["attention_types"] = [[["local"], options["num_hidden_layers"]]]
    settings = AutoConfig.for_model(architecture, **options)
    model = AutoModelForCausalLM.from_config(settings, dtype=dtype).eval()
    for parameter in model.parameters():  # norms and biases start equal in every model
        parameter.data += 0.02 * torch.randn(parameter.shape).to(dtype)
    model.save_pretrained(path, max_shard_size=max_shard_size)
    return model


def make_pair(folder: Path, architecture: str = "qwen3", **options: Any) -> dict[str, Path]:
    """Two models that differ in every tensor: `thinking` and `instruct`, each in its folder."""
    paths = {"thinking": folder / "thinking", "instruct": folder / "instruct"}
    for seed, path in enumerate(paths.values()):
        make_model(path, architecture, seed=seed, **options)
    return paths


def run_of(pair: dict[str, Path], **options: Any) -> Run:
    """What candidates of a pair share, with nothing to evaluate; nothing of it is written."""
    settings = {"folder": Path("nowhere"), "evaluation": {}, "end_point_evaluation": {}, **options}
    return Run(
        sources={name: describe(str(path), None) for name, path in pair.items()},
        groups=list(groups(open_checkpoint(pair["instruct"]))),
        files_from="instruct",
        **settings,
    )


def make_adapter(model: Path, path: Path, *, seed: int = 0, **options: Any) -> Path:
    """Save a random LoRA adapter of the model in `model`, as peft does; options are those of LoraConfig."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), LoraConfig(**options))
    for name, parameter in adapted.named_parameters():  # B starts as zero, copies as what they are copies of
        if "lora_" in name or "modules_to_save" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape).to(parameter.dtype)
    adapted.save_pretrained(path)
    return path


def write_checkpoint(
    path: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any] | None = None
) -> Path:
    """Write the given tensors as a model folder that no model class has to understand."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": "pico", **(config or {})}))
    save_file(dict(tensors), path / "model.safetensors", metadata={"format": "pt"})
    return path


def tensors(
    layers: int = 2, width: int = 4, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Tensors of a decoder in miniature: embeddings, layers of a matrix and a norm, final norm, head."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (7, width)}
    for i in range(layers):
        shapes |= {f"model.layers.{i}.mlp.weight": (width, width), f"model.layers.{i}.norm.weight": (width,)}
    shapes |= {"model.norm.weight": (width,), "lm_head.weight": (7, width)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
