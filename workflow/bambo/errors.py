"""The one exception that stands for a user's mistake, and how a command ends on it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class BadInput(Exception):
    """Something the user gave is wrong: config, checkpoint, benchmark file or environment.

    The message is one line, `<place>: <what was found>, <what was expected>; <what to do>`, where the place is a
    config key, a file or a tensor. Commands and workflow print it alone, without a traceback.
    """


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the process with status 1 and one line on standard error where the block raises BadInput."""
    try:
        yield
    except BadInput as error:
        sys.exit(f"error: {error}")
