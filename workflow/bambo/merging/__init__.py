"""Merging: one module a family of methods, arithmetic on chunks; `engine` streams models through them."""

from .engine import merge

__all__ = ["merge"]
