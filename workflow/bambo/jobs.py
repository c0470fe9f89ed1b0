"""How a workflow's script and a command begin and end: a log, and one line where the user made a mistake."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import BadInput


@contextmanager
def job(log: str) -> Iterator[None]:
    """Log to the file `log`; end with status 1 and one line, on standard error and in the log, on BadInput."""
    logging.basicConfig(filename=log, filemode="w", level=logging.INFO, format="%(message)s")
    logging.captureWarnings(True)
    try:
        yield
    except BadInput as error:
        logging.error("error: %s", error)
        sys.exit(f"error: {error}")
