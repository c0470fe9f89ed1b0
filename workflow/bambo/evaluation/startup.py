"""Start-up and end of an evaluation job: of the CPU seconds around generating, about half are not worth their while."""

import gc
import os
import sys
from contextlib import nullcontext
from types import ModuleType
from typing import Any


def lean() -> None:
    """Make this process import only what plain generation on one device needs; call it before torch is imported.

    torch's compiler, its sharded tensors and optional dependencies of transformers and requests are imported by every
    model class, and used by none here. Garbage collection finds nothing while thousands of modules are imported.
    """
    gc.set_threshold(100_000)
    os.environ.setdefault("TQDM_DISABLE", "1")
    sys.modules |= {name: None for name in ("accelerate", "chardet", "scipy")}  # type: ignore[misc]  # as if not installed
    sys.modules["torch._dynamo"] = Eager("torch._dynamo")
    # A context for masks that are built by vmap, as for images.
    masks = Eager("torch._dynamo._trace_wrapped_higher_order_op")
    masks.TransformGetItemToIndex = nullcontext  # type: ignore[attr-defined]
    sys.modules[masks.__name__] = masks

    import torch

    torch.distributed.is_available = lambda: False


class Eager(ModuleType):
    """Stands for the compiler where nothing is compiled: all that it offers is a decorator that changes nothing."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unchanged


def _unchanged(function: Any = None, *_: Any, **__: Any) -> Any:
    return _unchanged if function is None else function


def leave() -> None:
    """Spare the interpreter a last search for garbage: memory goes back with the process."""
    gc.freeze()
