"""Cancellation of calls that nobody waits for any more.

A call works under a token, which its context carries into worker threads; `check_cancelled` tests it between steps.

At interpreter exit, calls in daemon threads are cancelled and awaited: a thread returning from native code into a
finalised interpreter would crash the process ("terminate called"). Non-daemon threads of the caller may finish, as
Python promises.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final

# Longer than any step except loading a model.
_PATIENCE_S: Final = 10.0
_PATIENCE_TO_END_S: Final = 1.0
_POLL_S: Final = 0.01


class Token:
    """Cancellation token of a call.

    Args:
        within: Token of the enclosing call; None for none.
    """

    def __init__(self, within: Token | None = None) -> None:
        self._within = within
        # A thread that starts now would not end.
        self._is_cancelled = within is None and _is_exiting and not _is_main_thread()

    @property
    def is_cancelled(self) -> bool:
        """True once this call or an enclosing one was cancelled."""
        return self._is_cancelled or (self._within is not None and self._within.is_cancelled)

    def cancel(self) -> None:
        """Cancel the call at its next step."""
        self._is_cancelled = True


_current: ContextVar[Token | None] = ContextVar("gliclass_rerank_call", default=None)
# Threads by token; changed by single dict operations, which need no lock.
_at_work: dict[object, tuple[threading.Thread, Token]] = {}
_staying: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_is_exiting = False


def check_cancelled() -> None:
    """Raise `SystemExit` if the call was cancelled.

    Raises:
        SystemExit: It ends a thread without a traceback, unlike its subclasses, and escapes `except Exception`.
    """
    token = _current.get()
    if token is not None and token.is_cancelled:
        raise SystemExit("the call was cancelled")


@contextmanager
def working(token: Token | None = None) -> Iterator[Token]:
    """Work under a token in this thread; interpreter exit waits for it.

    Args:
        token: Token; None for a new one within the enclosing call's.

    Yields:
        The token.
    """
    token = token or Token(_current.get())
    mark = object()
    before = _current.set(token)
    try:
        _at_work[mark] = threading.current_thread(), token
        yield token
    except SystemExit as error:
        # Now, not when the error is dropped: torch releases the GIL to free a tensor.
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        _at_work.pop(mark, None)
        _current.reset(before)


def stays() -> None:
    """Mark this thread as outliving its calls: interpreter exit waits for the calls, not for the thread."""
    _staying.add(threading.current_thread())


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end_calls() -> None:
    global _is_exiting  # noqa: PLW0603 - the interpreter exits once
    _is_exiting = True
    callers = {thread for thread, _ in _others_at_work()} - set(_staying)
    _wait_until(lambda: not _cancelled_others(), _PATIENCE_S)
    # An object dropped here may hold the last reference to a model, which is then freed in that thread.
    _wait_until(lambda: not any(thread.is_alive() for thread in callers), _PATIENCE_TO_END_S)


def _others_at_work() -> list[tuple[threading.Thread, Token]]:
    own = threading.current_thread()
    return [(thread, token) for thread, token in list(_at_work.values()) if thread is not own]


def _cancelled_others() -> bool:
    others = _others_at_work()
    for _, token in others:
        token.cancel()
    return bool(others)


def _wait_until(is_over: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # Another Ctrl-C would end the wait and crash the process.
        with suppress(KeyboardInterrupt):
            if is_over():
                return
            time.sleep(_POLL_S)


atexit.register(_end_calls)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_at_work.clear)  # of threads that do not exist in the child
