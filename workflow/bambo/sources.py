"""Source models: from a folder or hub id in the config to a record of what lies there."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import adapter as adapters
from .checkpoint import COMPANIONS, Checkpoint, check_finite, fingerprint, open_checkpoint, weights_sample
from .config import is_hub_id
from .errors import BadInput

# What a merged model needs of a source, and the card that states its licence; the hub's other formats of the same
# weights are not downloaded.
PATTERNS = ["*.safetensors", *(f"*{suffix}" for suffix in COMPANIONS), "README.md"]
ADAPTER_PATTERNS = [adapters.CONFIG, adapters.WEIGHTS]


def locate(model: str, revision: str | None, patterns: Sequence[str] = PATTERNS) -> Path:
    """The folder of a model or an adapter; of a hub id, files that fit `patterns` are downloaded to the hub's cache.

    BadInput: no such repository or revision, no access, or no network.
    """
    if not is_hub_id(model):
        return Path(model)
    # Here, not above: only hub ids need it, and it takes a second to import.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"{model} (revision {revision or 'newest'}): not to be had from the hub ({reason}); check the name, "
            "log in with `hf auth login` for a gated model, or give a local folder"
        ) from None


def describe(model: str, revision: str | None, adapter: str | None = None) -> dict[str, Any]:
    """The record sources/<name>.json: path, fingerprint, architecture, dtype, groups; reads every byte once.

    adapter: folder or hub id of a LoRA adapter of the model; the record then has its folder, too.
    BadInput names file and tensor for a truncated file, NaN or infinity, and for an adapter of another model.
    """
    folder = locate(model, revision)
    record = {"model": model, "revision": revision, "path": str(folder)}
    if adapter is not None:
        record["adapter"] = str(locate(adapter, None, ADAPTER_PATTERNS))
    checkpoint = open_checkpoint(folder, record.get("adapter"))
    if checkpoint.adapter is not None:
        _check_base(checkpoint.adapter, model, checkpoint)
    check_finite(checkpoint)
    return {**record, **fingerprint(checkpoint)}


def _check_base(adapter: adapters.Adapter, model: str, checkpoint: Checkpoint) -> None:
    """BadInput where the adapter says that it was trained on another model, as far as that can be known here."""
    base = adapter.base
    if not base:
        return
    other = is_hub_id(base) and is_hub_id(model) and base.lower() != model.lower()
    if not is_hub_id(base):
        with suppress(BadInput):  # the folder is gone, or in a format that tells nothing
            other = weights_sample(open_checkpoint(base)) != weights_sample(checkpoint)
    if other:
        raise BadInput(
            f"{adapter.path}: adapter of {base}, expected one of {model}; give the model that it was trained on, or "
            "a folder if that holds the same weights"
        )
