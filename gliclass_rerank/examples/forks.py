"""What becomes of locks and connections when the process is forked.

Only the thread that forks lives on in the child. A lock that another one held stays locked there for ever, and SQLite
forbids to use a connection on both sides of a fork. So whoever has either is told before and after one.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """An object that has to know of forks. What it does must be quick and must not raise."""

    def before_fork(self) -> None:
        """Prepare; other threads still run."""

    def after_fork_in_parent(self) -> None:
        """Undo what was prepared."""

    def after_fork_in_child(self) -> None:
        """Renew what other threads may have held."""


_known: WeakSet[Forked] = WeakSet()
_told: list[Forked] = []


def follow_forks(instance: Forked) -> None:
    """Tell an object of every fork of the process, for as long as somebody holds it.

    Args:
        instance: The object.
    """
    _known.add(instance)


class ForkedLock:
    """A lock that is free in a forked process, whoever holds it in the parent. A context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        follow_forks(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Nothing to prepare."""

    def after_fork_in_parent(self) -> None:
        """Nothing to undo."""

    def after_fork_in_child(self) -> None:
        """Be free."""
        self._lock = threading.Lock()


def _before() -> None:
    # Held until after the fork, so that nobody is told of one half only.
    _told[:] = list(_known)
    for instance in _told:
        instance.before_fork()


def _in_parent() -> None:
    for instance in _told:
        instance.after_fork_in_parent()
    _told.clear()


def _in_child() -> None:
    for instance in _told:
        instance.after_fork_in_child()
    _told.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
