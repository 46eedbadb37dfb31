"""The claim of a process and its forked children on a store, which they share.

A process that has a store for itself holds SQLite's lock on it all the time. A forked child does not inherit that lock,
and while either holds it the other one could do nothing. So at a fork the process swaps it for this claim, an `flock`,
which children do inherit: among themselves they take turns, transaction by transaction, and everybody else is told that
the store is open elsewhere until the last of them is gone.
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
    """Where the claim on a store lies."""
    return path.with_name(f"{path.name}.lock")


class Claim:
    """A claim that is held until it is let go, here and in every child.

    Args:
        path: The store's file. The caller has SQLite's lock on it.
        read_only: Share the claim with other readers.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._descriptor: int | None = _opened(lock_path(path), os.O_CREAT)
        fcntl.flock(self._descriptor, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def take_turn(self, limit_s: float) -> bool:
        """Wait until no other process of the family is at work. SQLite's own way of waiting favours who works most.

        Args:
            limit_s: How long.

        Returns:
            Whether it is this process' turn.
        """
        end = time.monotonic() + limit_s
        while not self._takes_turn():
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)
        return True

    def _takes_turn(self) -> bool:
        try:
            # Of a process, unlike the claim itself; a killed one loses it.
            fcntl.lockf(self._held(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def end_turn(self, *, pause: bool) -> None:
        """Let others have their turn.

        Args:
            pause: Leave them the time to notice.
        """
        fcntl.lockf(self._held(), fcntl.LOCK_UN)
        if pause:
            time.sleep(2 * _POLL_S)

    def _held(self) -> int:
        if self._descriptor is None:
            raise DataError("the claim on a store was let go")
        return self._descriptor

    def let_go(self) -> None:
        """Give it up in this process."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def is_claimed(path: Path, *, read_only: bool) -> bool:
    """Whether a family of processes has a store.

    Args:
        path: The store's file. The caller has SQLite's lock on it, so that nobody claims it meanwhile.
        read_only: Whether other readers matter not. A writer clears away what a family left behind.

    Returns:
        Whether it must be left alone.

    Raises:
        DataError: What lies in the claim's place is no file.
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
