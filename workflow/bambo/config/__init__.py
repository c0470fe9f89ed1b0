"""The config: typed and checked where it enters; behind this door there are plain values.

`load` turns what was read from YAML into a `Config` or raises BadInput with one line that names the key.
"""

from .identity import (
    changed_keys,
    check_unchanged,
    deciding,
    evaluation_identity,
    hub_benchmarks,
    hub_data,
    iterations,
    needs_base,
    run_settings,
    search_settings,
    search_tables,
    settings_hash,
)
from .importance import asking, check_prompts, compares_activations, granularities, importance_notes
from .loading import load
from .methods import base_notes
from .models import Config
from .surroundings import check_blocks, check_paths, check_writable, is_hub_id, nearest_folder, source_files

__all__ = [
    "Config",
    "asking",
    "base_notes",
    "changed_keys",
    "check_blocks",
    "check_paths",
    "check_prompts",
    "check_unchanged",
    "check_writable",
    "compares_activations",
    "deciding",
    "evaluation_identity",
    "granularities",
    "hub_benchmarks",
    "hub_data",
    "importance_notes",
    "is_hub_id",
    "iterations",
    "load",
    "nearest_folder",
    "needs_base",
    "run_settings",
    "search_settings",
    "search_tables",
    "settings_hash",
    "source_files",
]
