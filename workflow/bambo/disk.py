"""How much disk a run needs: merged models come and go, so few of them are there at a time."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import open_checkpoint
from .config import Config, is_hub_id, nearest_folder
from .errors import BadInput


@dataclass(frozen=True)
class Space:
    """What the merged models of a run need at most, in bytes, and what is free where they go."""

    models: int
    model_bytes: int
    free: int

    @property
    def needed(self) -> int:
        return self.models * self.model_bytes

    def __str__(self) -> str:
        return (
            f"disk: up to {self.models} merged models of {size(self.model_bytes)} at a time, "
            f"{size(self.needed)} of the {size(self.free)} that are free"
        )


def space(config: Config, parallel: int) -> Space | None:
    """The space for one merged model an evaluation at work, and one more; None where the size is not known yet."""
    sources = [source.model for source in config.sources.values() if not is_hub_id(source.model)]
    if not sources or config.evaluation.engine == "simulated":
        return None
    tensors = open_checkpoint(Path(sources[-1])).tensors.values()
    free = shutil.disk_usage(nearest_folder(config.folder)).free
    return Space(parallel + 1, sum(tensor.bytes for tensor in tensors), free)


def check_space(config: Config, parallel: int) -> Space | None:
    """`space`; BadInput where it is not there."""
    found = space(config, parallel)
    if found is not None and found.needed > found.free:
        raise BadInput(
            f"{config.folder}: {size(found.free)} are free, expected {size(found.needed)} for "
            f"{found.models} merged models of {size(found.model_bytes)}; free space, let fewer evaluations run at "
            "a time, or work elsewhere"
        )
    return found


def size(count: int) -> str:
    """Bytes in words: 1.7 MB."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
