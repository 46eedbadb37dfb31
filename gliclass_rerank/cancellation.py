"""Cancellation: calls end early when nobody waits for them any more.

A call works under a token, which its context carries into the threads that work for it, and asks between two steps
whether the token was cancelled (`check_cancelled`).

When the interpreter exits, calls that still run in daemon threads are cancelled and waited for: a thread that comes
back from native code into an interpreter that is gone takes the process with it ("terminate called"). Threads of the
caller's that are no daemons are not ended: Python promises to let them finish, and a service may live in one.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final

# Longer than any step but loading a model takes.
_PATIENCE_S: Final = 10.0
_POLL_S: Final = 0.01


class Cancelled(SystemExit):
    """The call was cancelled; ends a thread without a traceback, and no `except Exception` takes it for a failure."""


class Token:
    """Says whether a call is still wanted.

    Args:
        within: That of the call which this one is a part of; None for none.
    """

    def __init__(self, within: Token | None = None) -> None:
        self._within = within
        # A thread that begins now would not come to an end.
        self._is_cancelled = within is None and _is_exiting and not _is_main_thread()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the call any more, or for one around it."""
        return self._is_cancelled or (self._within is not None and self._within.is_cancelled)

    def cancel(self) -> None:
        """Let the call end at its next step."""
        self._is_cancelled = True


_current: ContextVar[Token | None] = ContextVar("gliclass_rerank_call", default=None)
# Who works under which token; changed by single operations of a dict, which need no lock.
_at_work: dict[object, tuple[int, Token]] = {}
_is_exiting = False


def check_cancelled() -> None:
    """Between two steps of a call.

    Raises:
        Cancelled: The call was cancelled.
    """
    token = _current.get()
    if token is not None and token.is_cancelled:
        raise Cancelled


@contextmanager
def working(token: Token | None = None) -> Iterator[Token]:
    """Work under a token in this thread; the interpreter's exit waits for it.

    Args:
        token: The token; None for a new one, within that of the call which this one is a part of.

    Yields:
        The token.
    """
    token = token or Token(_current.get())
    mark = object()
    before = _current.set(token)
    try:
        _at_work[mark] = threading.get_ident(), token
        yield token
    finally:
        _at_work.pop(mark, None)
        _current.reset(before)


def _is_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _end_calls() -> None:
    global _is_exiting  # noqa: PLW0603 - the interpreter exits once
    _is_exiting = True
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        # What is raised for one more Ctrl-C would end the wait, and with it, roughly, the process.
        with suppress(KeyboardInterrupt):
            if not _cancel_others():
                return
            time.sleep(_POLL_S)


def _cancel_others() -> int:
    others = [token for ident, token in list(_at_work.values()) if ident != threading.get_ident()]
    for token in others:
        token.cancel()
    return len(others)


atexit.register(_end_calls)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_at_work.clear)  # of threads that are not there
