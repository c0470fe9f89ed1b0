"""How a workflow's script and a command begin and end: a log, and one line where the user made a mistake."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import BadInput, os_error


@contextmanager
def job(log: str) -> Iterator[None]:
    """Log to the file `log`; on BadInput or OSError end with status 1 and one line, there and on standard error."""
    logging.basicConfig(filename=log, filemode="w", level=logging.INFO, format="%(message)s")
    logging.captureWarnings(True)
    try:
        yield
    except (BadInput, OSError) as raised:
        error = os_error(raised) if isinstance(raised, OSError) else raised
        logging.error("error: %s", error)
        sys.exit(f"error: {error}")
