"""Notes of the library on stderr: which backend was taken, and that a first export takes its time."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def library_notes() -> Iterator[None]:
    """Print the library's log, from INFO on, inside the block."""
    library, handler = logging.getLogger("gliclass_rerank"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    level = library.level
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(level)
