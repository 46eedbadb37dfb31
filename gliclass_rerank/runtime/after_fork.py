"""Fork safety for native libraries: a forked child opens its own objects and leaves the parent's alone.

A child inherits locks but not the threads that hold them. Objects of libraries that compute in threads are therefore
neither used nor freed in a child (docs/decisions/0025-runtimes.md).
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from gliclass_rerank.calls.steps import computing

_Opened = TypeVar("_Opened")


class OpenedHere(Generic[_Opened]):
    """Lazily opened library object, one per process; a forked child opens its own on first use.

    Args:
        opened: Factory of the object.
    """

    def __init__(self, opened: Callable[[], _Opened]) -> None:
        self._open = opened
        self._opening = threading.Lock()
        with computing:  # no fork finds it half opened
            self._found: _Opened | None = opened()
        _ALL.add(self)

    def get(self) -> _Opened:
        """Return the object, the same one in all threads of a process."""
        with self._opening:
            if self._found is None:
                self._found = self._open()
            return self._found

    def drop(self) -> None:
        """Forget the object; the next `get` opens a new one."""
        with self._opening:
            self._found = None

    def leave(self) -> None:
        """Forget the object in a child that has no other threads yet."""
        if self._found is not None:
            # Never freed, not even when the child exits: that would wait for the parent's threads.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._found))
        self._found = None
        self._opening = threading.Lock()  # another thread of the parent may have held it


_ALL: Final[WeakSet[OpenedHere[Any]]] = WeakSet()  # Any: of each library its own


def _leave_all() -> None:
    for each in list(_ALL):
        each.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
