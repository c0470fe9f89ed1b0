"""The search: initial design, surrogate, acquisition, stopping. Plain functions; points lie in [0, 1]^D.

`Search` is the door for use without a workflow: any preset on a problem of one's own, by `ask` and `tell`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .session import Search

__all__ = ["Search"]


def __getattr__(name: str) -> Any:
    # Imported when asked for, since the presets, which planning a run needs, lie in this package, too.
    if name == "Search":
        from .session import Search

        return Search
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
