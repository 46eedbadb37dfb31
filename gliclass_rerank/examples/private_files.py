"""Files of a store: read by nobody else, and never something that only pretends to be a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Final

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError

PRIVATE: Final = 0o600
# Absent on Windows, which has neither such links nor FIFOs.
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


def create_private(path: Path, mode: int = PRIVATE) -> None:
    """Make an empty file.

    Args:
        path: Must not exist, not even as a link.
        mode: Who may do what with it, whatever the process' own mask says.

    Raises:
        FileExistsError: It exists.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK, PRIVATE)
    try:
        if mode != PRIVATE:
            os.chmod(path, mode)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading.

    Args:
        path: The file. A link, a folder, a FIFO or a device is refused, without waiting for anybody.

    Returns:
        A handle.

    Raises:
        DataError: It is no regular file.
        OSError: It cannot be opened.
    """
    require_regular(path, follow_links=False)
    descriptor = os.open(path, os.O_RDONLY | _NO_LINK | _NO_WAIT | _BINARY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"`{named(path)}` is no regular file")
    return os.fdopen(descriptor, "rb")


def require_regular(path: Path, *, follow_links: bool) -> os.stat_result:
    """Refuse what is no file without opening it: opening a FIFO waits for a writer, and a device may act.

    Args:
        path: The file; must exist.
        follow_links: Whether a link to a file is one.

    Returns:
        What the system knows of it.

    Raises:
        DataError: It is no regular file.
        OSError: It does not exist.
    """
    found = os.stat(path, follow_symlinks=follow_links)
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"`{named(path)}` is no regular file")
    return found
