"""Objects of libraries across `os.fork`: the child opens its own, and leaves the parent's alone.

A child has none of the parent's other threads, while the locks that these held stay taken in it. So nothing of a
library that computes in threads is used, or even freed, in a child (docs/decisions/0025-runtimes.md).
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
    """What a library opens: once now, and again in a forked child when it is first asked for there.

    Args:
        opened: Opens it.
    """

    def __init__(self, opened: Callable[[], _Opened]) -> None:
        self._open = opened
        self._opening = threading.Lock()
        with computing:  # no fork finds it half opened
            self._found: _Opened | None = opened()
        _ALL.add(self)

    def get(self) -> _Opened:
        """The object; the same one in all threads of a process."""
        with self._opening:
            if self._found is None:
                self._found = self._open()
            return self._found

    def drop(self) -> None:
        """Open another one when it is asked for again."""
        with self._opening:
            self._found = None

    def leave(self) -> None:
        """Forget the object, in a child that has no other threads yet."""
        if self._found is not None:
            # Never freed, not even when the child ends: that would wait for the parent's threads.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._found))
        self._found = None
        self._opening = threading.Lock()  # another thread of the parent may have held it


_ALL: Final[WeakSet[OpenedHere[Any]]] = WeakSet()  # Any: of each library its own


def _leave_all() -> None:
    for each in list(_ALL):
        each.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
