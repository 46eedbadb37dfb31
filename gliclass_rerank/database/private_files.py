"""Private files of a store: owner-only, regular files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Final

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError
from gliclass_rerank.files.locks import NO_LINK, NO_WAIT

PRIVATE: Final = 0o600
_BINARY: Final = getattr(os, "O_BINARY", 0)


def create_private(path: Path, mode: int = PRIVATE) -> None:
    """Create an empty file with exact permissions, regardless of the umask.

    Args:
        path: New file; not even a link may exist.
        mode: File permissions.

    Raises:
        FileExistsError: It exists.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK, PRIVATE)
    try:
        if mode != PRIVATE:
            os.chmod(path, mode)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading, refusing links, folders, FIFOs and devices without blocking.

    Args:
        path: File.

    Returns:
        Open handle.

    Raises:
        DataError: It is not a regular file.
        OSError: It cannot be opened.
    """
    require_regular(path, follow_links=False)
    descriptor = os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT | _BINARY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"`{named(path)}` is no regular file")
    return os.fdopen(descriptor, "rb")


def require_regular(path: Path, *, follow_links: bool) -> os.stat_result:
    """Check for a regular file without opening it: opening a FIFO blocks, and a device may act.

    Args:
        path: Existing file.
        follow_links: Accept a link to a regular file.

    Returns:
        Status of the file.

    Raises:
        DataError: It is not a regular file.
        OSError: It does not exist.
    """
    found = os.stat(path, follow_symlinks=follow_links)
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"`{named(path)}` is no regular file")
    return found
