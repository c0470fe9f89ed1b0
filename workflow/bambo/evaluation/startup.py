"""Start-up and end of an evaluation job, without the half of its CPU seconds that serves nothing."""

import gc
import sys
from contextlib import nullcontext
from types import ModuleType
from typing import Any


def lean() -> None:
    """Make this process import only what plain generation on a CPU needs; call it before torch is imported.

    torch's compiler, its sharded tensors and optional dependencies of transformers and requests are imported by every
    model class, and used by none here. Garbage collection finds nothing while thousands of modules are imported.
    """
    gc.set_threshold(100_000)
    for name in ("accelerate", "chardet", "scipy"):
        sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed
    compiler = Eager("torch._dynamo")
    compiler.__path__ = []
    masks = Eager("torch._dynamo._trace_wrapped_higher_order_op")
    masks.TransformGetItemToIndex = nullcontext  # type: ignore[attr-defined]  # around masks made by vmap
    sys.modules |= {module.__name__: module for module in (compiler, masks)}

    import torch

    torch.distributed.is_available = lambda: False


class Eager(ModuleType):
    """Stands for the compiler where nothing is compiled: all that it offers is a decorator that changes nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unchanged


def _unchanged(function: Any = None, *_: Any, **__: Any) -> Any:
    return _unchanged if function is None else function


def leave() -> None:
    """Spare the interpreter a last search for garbage: memory goes back with the process."""
    gc.freeze()
