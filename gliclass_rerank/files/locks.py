"""Locks on files and folders that live as long as a process, and leftovers that no process holds.

Locks do not work on Windows and some file systems: there an old file is a leftover, and folders stay.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Absent on Windows, which has neither such links nor FIFOs.
NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
"""Flag of `os.open` that refuses symbolic links."""
NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
"""Flag of `os.open` with which a FIFO does not block."""

_OLD_S: Final = 3600.0


def try_lock(handle: int) -> bool | None:
    """Try to lock a file or folder; None where locks are not supported."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # not on this file system
        return None
    return True


def share_lock(handle: int) -> None:
    """Wait for a lock that others can share, where locks are supported."""
    if fcntl is not None:
        with suppress(OSError):  # not on this file system
            fcntl.flock(handle, fcntl.LOCK_SH)


def hold(path: Path) -> int | None:
    """Lock a new temporary file or folder for as long as the process lives.

    Args:
        path: File or folder that this process has just made.

    Returns:
        Descriptor of the lock, to close; None if another process took the path for a leftover before it was locked.
    """
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY)
    try:
        lock = os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT)
    except FileNotFoundError:
        return None
    if try_lock(lock) is not False and path.exists():
        return lock
    os.close(lock)
    return None


def remove_unlocked(found: Iterable[Path]) -> None:
    """Remove temporary files and folders that no process holds. Links are left alone."""
    for each in found:
        with suppress(OSError):  # another process was faster, or still writes it
            if fcntl is None:  # an open file cannot be removed
                _remove_if_old(each)
                continue
            lock = os.open(each, os.O_RDONLY | NO_LINK | NO_WAIT)
            try:
                _remove_if_free(each, try_lock(lock))
            finally:
                os.close(lock)


def _remove_if_free(path: Path, is_free: bool | None) -> None:
    if is_free is None:
        _remove_if_old(path)
    elif is_free and path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif is_free:
        path.unlink(missing_ok=True)


def _remove_if_old(path: Path) -> None:
    found = path.lstat()
    # A folder's time says nothing of the files in it.
    if stat.S_ISREG(found.st_mode) and found.st_mtime < time.time() - _OLD_S:
        path.unlink(missing_ok=True)
