"""The one exception that stands for a user's mistake, and how a command ends on it."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class BadInput(Exception):
    """Something the user gave is wrong: config, checkpoint, benchmark file or environment.

    The message is one line, `<place>: <what was found>, <what was expected>; <what to do>`, where the place is a
    config key, a file or a tensor. Commands and workflow print it alone, without a traceback.
    """


def os_error(error: OSError) -> BadInput:
    """What the system refused, as a line for the user: a full disk, missing rights, a folder that vanished."""
    place = error.filename or "a file of the run"
    remedy = (
        "free space"
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "see whether its folder is there and can be used"
    )
    return BadInput(
        f"{place}: {error.strerror or error}; {remedy}, then start again: what is finished is kept"
    )


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the process with status 1 and one line on standard error where the block raises BadInput or OSError."""
    try:
        yield
    except BadInput as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {os_error(error)}")
