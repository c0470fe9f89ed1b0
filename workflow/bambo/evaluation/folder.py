"""What every engine reads from a model's folder beside its weights."""

from pathlib import Path
from typing import Any, NamedTuple

from ..errors import BadInput


class Folder(NamedTuple):
    tokenizer: Any
    eos: set[int]  # ids that end an answer
    context_length: int | None  # most tokens of prompt and output together


def read_folder(model_dir: Path) -> Folder:
    """BadInput where the folder lacks a part that scoring needs."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    if not (model_dir / "config.json").is_file():
        raise BadInput(f"{model_dir}: no config.json, expected a model folder of Hugging Face")
    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    if not tokenizer.chat_template:
        raise BadInput(
            f"{model_dir}: the tokenizer has no chat template; name in files_from a source with one"
        )
    config = AutoConfig.from_pretrained(model_dir, local_files_only=True).get_text_config()
    if (model_dir / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(model_dir, local_files_only=True)
    else:
        generation = GenerationConfig.from_model_config(config)
    eos = tokenizer.eos_token_id if generation.eos_token_id is None else generation.eos_token_id
    if eos is None:
        raise BadInput(f"{model_dir}/generation_config.json: no eos_token_id, so no answer would end; add it")
    eos = set(eos) if isinstance(eos, list) else {eos}
    return Folder(tokenizer, eos, getattr(config, "max_position_embeddings", None))
