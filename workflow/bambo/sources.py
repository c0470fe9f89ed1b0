"""Source models: from a folder or hub id in the config to a record of what lies there."""

from pathlib import Path
from typing import Any

from .checkpoint import COMPANIONS, check_finite, fingerprint, open_checkpoint
from .config import is_hub_id
from .errors import BadInput

# What a merged model needs of a source; the hub's other formats of the same weights are not downloaded.
PATTERNS = ["*.safetensors", *(f"*{suffix}" for suffix in COMPANIONS)]


def locate(model: str, revision: str | None) -> Path:
    """The folder of a source; a hub id is downloaded into the hub's cache first.

    BadInput: no such repository or revision, no access, or no network.
    """
    if not is_hub_id(model):
        return Path(model)
    # Here, not above: only hub ids need it, and it takes a second to import.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=PATTERNS))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"{model} (revision {revision or 'newest'}): not to be had from the hub ({reason}); check the name, "
            "log in with `hf auth login` for a gated model, or give a local folder"
        ) from None


def describe(model: str, revision: str | None) -> dict[str, Any]:
    """The record sources/<name>.json: path, fingerprint, architecture, dtype, groups; reads every byte once.

    BadInput names file and tensor for a truncated file, NaN or infinity.
    """
    folder = locate(model, revision)
    checkpoint = open_checkpoint(folder)
    check_finite(checkpoint)
    return {"model": model, "revision": revision, "path": str(folder), **fingerprint(checkpoint)}
