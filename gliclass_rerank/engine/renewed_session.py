"""Sessions that a forked process opens again: the threads of those that it inherits were left behind."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Mapping

from gliclass_rerank.engine.sessions import Array, FloatArray, Session
from gliclass_rerank.forks import computing


class RenewedSession:
    """A session of whichever process uses it.

    Args:
        opened: Opens it; called once now, and in a forked process when it is first used there.

    Raises:
        BackendError: It cannot be opened.
    """

    def __init__(self, opened: Callable[[], Session]) -> None:
        self._opened = opened
        self._opening = threading.Lock()
        with computing():
            self._session: Session | None = opened()
        _alive.add(self)

    def run(self, inputs: Mapping[str, Array]) -> list[FloatArray]:
        """Compute the graph's outputs; see `Session.run`."""
        session = self._session
        if session is None:
            with self._opening:
                session = self._session = self._session or self._opened()
        return session.run(inputs)

    def _abandon(self) -> None:
        self._opening = threading.Lock()
        if self._session is not None:
            # Never freed: it would wait for its threads to end.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._session = None


_alive: weakref.WeakSet[RenewedSession] = weakref.WeakSet()


def _abandon_all() -> None:
    for session in _alive:
        session._abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
