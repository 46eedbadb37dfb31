"""Fork safety of forward passes, and computing in forked processes.

A child keeps the locks of threads it does not have, so a fork waits for running forward passes, and later ones wait for
the fork. If the parent has computed before, the child's only thread would wait for OpenMP threads that are gone; a new
thread computes in its place (docs/decisions/0025-runtimes.md).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

from gliclass_rerank.calls.cancellation import check_cancelled
from gliclass_rerank.calls.workers import Workers

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
# A fork waits this long at most: a forward pass takes a fraction of it, and a blocked fork blocks the process.
_PATIENCE_S: Final = 30.0
_TOKENIZERS_SETTING: Final = "TOKENIZERS_PARALLELISM"


class _Gate:
    """Mutual exclusion of forks and native computing."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._changed = threading.Condition(threading.RLock())  # a signal handler may fork
        self._inside: set[int] = set()
        self.is_closing = False

    def enter(self) -> None:
        with self._changed:
            while self.is_closing:
                self._changed.wait()
            self._inside.add(threading.get_ident())

    def leave(self) -> None:
        with self._changed:
            self._inside.discard(threading.get_ident())
            self._changed.notify_all()

    def step_aside(self) -> None:
        if threading.get_ident() in self._inside:
            self.leave()
            self.enter()

    def close(self) -> None:
        """Wait for all others; the lock is held until the fork is over."""
        self._changed.acquire()
        self.is_closing = True
        deadline, own = time.monotonic() + _PATIENCE_S, threading.get_ident()
        while self._inside - {own} and (left := deadline - time.monotonic()) > 0:
            self._changed.wait(left)

    def open(self) -> None:
        self.is_closing = False
        self._changed.notify_all()
        self._changed.release()


_gate: Final = _Gate()
_survivor: int | None = None
_stand_in = Workers(1, "gliclass-rerank-forked")


@contextmanager
def computing() -> Iterator[None]:
    """Prevent forks inside the block."""
    try:
        _gate.enter()
        yield
    finally:
        _gate.leave()


def between_groups() -> None:
    """Let a waiting fork happen, between two steps of a computation.

    Raises:
        SystemExit: The call was cancelled.
    """
    check_cancelled()
    if _gate.is_closing:
        _gate.step_aside()


def in_sound_thread(
    function: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Result:
    """Call a function here, or in a replacement for a thread that survived a fork.

    Args:
        function: Computing function.
        *args: Positional arguments.
        **kwargs: Keyword arguments.

    Returns:
        Result of the function.
    """
    if threading.get_ident() == _survivor:
        return _stand_in.call(function, *args, **kwargs)
    return function(*args, **kwargs)


def _begin_anew() -> None:
    global _survivor  # noqa: PLW0603 - a process begins once
    _gate.renew()
    _survivor = threading.get_ident()
    # The tokenizers' threads are gone too. The library handles that, unless told to use them.
    if _TOKENIZERS_SETTING in os.environ:
        os.environ[_TOKENIZERS_SETTING] = "false"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_gate.close, after_in_parent=_gate.open, after_in_child=_begin_anew)
