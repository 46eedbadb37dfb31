"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Final

try:
    import fcntl
except ImportError:  # Windows, where leftovers stay
    fcntl = None  # type: ignore[assignment]

_UNFINISHED: Final = ".unfinished"


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

    What killed processes have left of the same folder is removed.

    Args:
        path: The folder; must not exist, while the one it lies in must.

    Yields:
        Where to write. It is gone when the block is left with an error; a killed process leaves it behind, under a name
        that starts with a dot.
    """
    remove_leftovers(path)
    staging, lock = _new_staging(path)
    try:
        yield staging
        for file in staging.rglob("*"):
            if file.is_file():
                _sync(file)
        staging.chmod(0o755)
        os.replace(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes have left of folders that `whole_folder` was to write under a name.

    Args:
        path: The folder that was to be written.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}-[a-z0-9_]{{8}}{re.escape(_UNFINISHED)}")
    for found in [each for each in path.parent.glob(".*") if pattern.fullmatch(each.name)]:
        with suppress(OSError):  # another process was quicker, or still writes it
            lock = os.open(found, os.O_RDONLY)
            try:
                if _lock(lock):
                    shutil.rmtree(found, ignore_errors=True)
            finally:
                os.close(lock)


def _new_staging(path: Path) -> tuple[Path, int]:
    """A folder to write into and the lock that says that a process does: it ends with the process."""
    while True:
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-", suffix=_UNFINISHED))
        if fcntl is None:
            return staging, os.open(os.devnull, os.O_RDONLY)
        lock = os.open(staging, os.O_RDONLY)
        if _lock(lock) is not False and staging.exists():
            return staging, lock
        os.close(lock)  # another process took it for a leftover before it was locked


def _lock(handle: int) -> bool | None:
    """Whether a folder could be locked; None where there are no locks, and nobody can say who still writes."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # not on this file system
        return None
    return True


def _sync(file: Path) -> None:
    with file.open("r+b") as handle:
        os.fsync(handle.fileno())  # else a power failure could leave the name without its contents
