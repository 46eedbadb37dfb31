"""Steps of a call: between two of them a call ends if it was cancelled, and a fork may happen.

A call works under a token, which its context carries into the threads that work for it, and asks between two steps
whether the token was cancelled (`between_groups`). While native code computes, a fork waits: a forked process would
inherit locks of native libraries that nobody opens any more.

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
from dataclasses import dataclass
from typing import Final

# Longer than any step except loading a model.
_PATIENCE_S: Final = 10.0
_PATIENCE_TO_END_S: Final = 1.0
# After that a fork goes on: one forward pass takes a fraction of it, and a process that cannot fork is stuck.
_PATIENCE_TO_FORK_S: Final = 30.0
_POLL_S: Final = 0.01


@dataclass(eq=False)
class Token:
    """Cancellation token of a call.

    Attributes:
        within: Token of the call which this one is a part of; None for none.
        is_cancelled: Whether nobody waits for the call any more; one around it may be cancelled too.
        on_scored: Callback with the number of candidates scored since the last one; None for none.
    """

    within: Token | None = None
    is_cancelled: bool = False
    on_scored: Callable[[int], object] | None = None

    def cancel(self) -> None:
        """Let the call end at its next step."""
        self.is_cancelled = True


_current: ContextVar[Token | None] = ContextVar("gliclass_rerank_call", default=None)
# Threads by token; changed by single dict operations, which need no lock.
_at_work: dict[object, tuple[threading.Thread, Token]] = {}
_staying: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_is_exiting = False


class _Gate:
    """Keeps forks and native computing apart.

    Attributes:
        survivor: The thread that a fork has left in this process; None if none has.
    """

    survivor: int | None = None

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin anew, in a forked process."""
        self._changed = threading.Condition(threading.RLock())  # a signal handler may fork
        self._inside: set[int] = set()
        self.is_closing = False

    def __enter__(self) -> None:
        try:
            with self._changed:
                while self.is_closing:
                    self._changed.wait()
                self._inside.add(threading.get_ident())
        except BaseException:  # Ctrl-C: nobody else would leave again
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside.discard(threading.get_ident())
            self._changed.notify_all()

    def step_aside(self) -> None:
        if threading.get_ident() in self._inside:
            self.__exit__()
            self.__enter__()

    def close(self) -> None:
        """Wait for all others; the lock is held until the fork is over."""
        self._changed.acquire()
        self.is_closing = True
        deadline, own = time.monotonic() + _PATIENCE_TO_FORK_S, threading.get_ident()
        while self._inside - {own} and (left := deadline - time.monotonic()) > 0:
            self._changed.wait(left)

    def open(self) -> None:
        self.is_closing = False
        self._changed.notify_all()
        self._changed.release()


computing: Final = _Gate()
"""Held while native code computes: a fork waits until nobody holds it."""


def between_groups(num_scored: int = 0) -> None:
    """Between two steps of a call that is in a consistent state: end it if it was cancelled, let a waiting fork happen.

    Args:
        num_scored: Candidates scored by the step before, for progress.

    Raises:
        SystemExit: It ends a thread without a traceback, unlike its subclasses, and escapes `except Exception`.
    """
    token = _current.get()
    while token is not None:
        if token.is_cancelled:
            raise SystemExit("the call was cancelled")
        if num_scored and token.on_scored is not None:
            token.on_scored(num_scored)
        token = token.within
    if computing.is_closing:
        computing.step_aside()


@contextmanager
def working(token: Token | None = None) -> Iterator[Token]:
    """Work under a token in this thread; interpreter exit waits for it.

    Args:
        token: Token; None for a new one within the enclosing call's.

    Yields:
        The token.
    """
    if token is None:
        token = Token(_current.get())
        if token.within is None and _is_exiting and not _is_main_thread():
            token.cancel()  # a thread that begins now would not come to an end
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
