"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file under another name beside it; it takes its place when the block is left without an error.

    Args:
        path: The file; replaced if it exists. Its folder must exist.

    Yields:
        Where to write. Whatever is there is gone when the block is left with an error.
    """
    staging = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.new")
    try:
        yield staging
        _sync(staging)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder under another name beside it; it gets its name when the block is left without an error.

    Args:
        path: The folder; must not exist, while the one it lies in must.

    Yields:
        Where to write. It is gone when the block is left with an error; a killed process leaves it behind, under a name
        that starts with a dot.
    """
    staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield staging
        for file in staging.rglob("*"):
            if file.is_file():
                _sync(file)
        staging.chmod(0o755)
        os.replace(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _sync(file: Path) -> None:
    with file.open("r+b") as handle:
        os.fsync(handle.fileno())  # else a power failure could leave the name without its contents
