"""Locks and connections across `os.fork`.

Only the forking thread lives on in the child: locks held by others stay locked, and SQLite forbids using a connection
on both sides. Owners are notified before and after a fork.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """Object notified of forks; its methods must be fast and not raise."""

    def before_fork(self) -> None:
        """Prepare; other threads still run."""

    def after_fork_in_parent(self) -> None:
        """Undo the preparation."""

    def after_fork_in_child(self) -> None:
        """Renew state that other threads may have held."""


_known: WeakSet[Forked] = WeakSet()
_told: list[Forked] = []


def follow_forks(instance: Forked) -> None:
    """Notify an object of every fork while it is referenced elsewhere."""
    _known.add(instance)


class ForkedLock:
    """Lock that is free in a forked child, whoever holds it in the parent; a context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        follow_forks(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Do nothing."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Release the lock."""
        self._lock = threading.Lock()


def _before() -> None:
    # Held until after the fork, so that every notification is complete.
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
