"""Merging: arithmetic on pieces of tensors, one module a family of methods; `engine` streams models through it."""

from .engine import merge, merged_tensors
from .sources import Sources, open_sources

__all__ = ["Sources", "merge", "merged_tensors", "open_sources"]
