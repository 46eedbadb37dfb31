"""Shared claim of a process and its forked children on a store.

A process locks its store with SQLite, and a child does not inherit that lock. At a fork the process swaps it for an
`flock`, which children inherit: the family takes turns by transaction, and others find the store open elsewhere until
the last one ends.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from gliclass_rerank.errors import DataError
from gliclass_rerank.examples.private_files import PRIVATE, require_regular

try:
    import fcntl
except ImportError:  # Windows, which has no forks either
    fcntl = None  # type: ignore[assignment]

_POLL_S: Final = 0.001


def lock_path(path: Path) -> Path:
    """Lock file of a store."""
    return path.with_name(f"{path.name}.lock")


class Claim:
    """Claim on a store, held until released in this process and every child.

    Args:
        path: Store file, locked through SQLite by the caller.
        read_only: Share the claim with other readers.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._descriptor: int | None = _opened(lock_path(path), os.O_CREAT)
        fcntl.flock(self._descriptor, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def take_turn(self, limit_s: float) -> bool:
        """Wait up to `limit_s` seconds for this process's turn; False on timeout. SQLite's own waiting is unfair."""
        end = time.monotonic() + limit_s
        while not self._takes_turn():
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)
        return True

    def _takes_turn(self) -> bool:
        try:
            # Per process, unlike the claim itself; a killed process loses it.
            fcntl.lockf(self._held(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def end_turn(self, *, pause: bool) -> None:
        """Yield to other processes; `pause` leaves them time to notice."""
        fcntl.lockf(self._held(), fcntl.LOCK_UN)
        if pause:
            time.sleep(2 * _POLL_S)

    def _held(self) -> int:
        if self._descriptor is None:
            raise DataError("the claim on a store was released")
        return self._descriptor

    def let_go(self) -> None:
        """Release the claim in this process."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def is_claimed(path: Path, *, read_only: bool) -> bool:
    """Test if a family of processes holds a store.

    Args:
        path: Store file, locked through SQLite by the caller, so that nobody claims it meanwhile.
        read_only: Ignore other readers. A writer removes a dead family's leftovers.

    Returns:
        True if the store must be left alone.

    Raises:
        DataError: The lock path is not a regular file.
    """
    place = lock_path(path)
    if fcntl is None or not os.path.lexists(place):
        return False
    try:
        require_regular(place, follow_links=False)
        descriptor = _opened(place, 0)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"the lock of a store cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if not read_only:
            place.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _opened(place: Path, flags: int) -> int:
    return os.open(place, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | flags, PRIVATE)
