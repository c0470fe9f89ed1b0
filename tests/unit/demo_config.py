"""The demo's config, changed here and there."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEMO = yaml.safe_load((ROOT / "config/config.yaml").read_text())
REMOVED = object()
DRAWN = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0}


def demo(**changes: Any) -> dict[str, Any]:
    """The demo's config with keys set or removed; `searches__blocks__seed=1` is searches.blocks.seed."""
    config = deepcopy(DEMO)
    for key, value in changes.items():
        *path, last = key.split("__")
        table = config
        for part in path:
            table = table[part]
        if value is REMOVED:
            del table[last]
        else:
            table[last] = value
    return config
