"""Merging: one module a family of methods, arithmetic on chunks; `engine` streams models through them."""

from .engine import Sources, merge, merged_tensors, open_sources

__all__ = ["Sources", "merge", "merged_tensors", "open_sources"]
