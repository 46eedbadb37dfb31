"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file under another name beside it; it takes its place when the block is left without an error.

    Args:
        path: The file; replaced if it exists. Its folder must exist.

    Yields:
        Where to write. Whatever is there is gone when the block is left with an error.
    """
    staging = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield staging
        with staging.open("r+b") as handle:
            os.fsync(handle.fileno())  # else a power failure could leave the name without its contents
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
