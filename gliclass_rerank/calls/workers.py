"""Threads that work for callers and never keep the process from ending.

Not `ThreadPoolExecutor`, whose threads the interpreter joins when it exits, however long their work takes, and which
has none left in a forked process.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

from gliclass_rerank.calls.steps import between_groups, stays, working

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Work = Callable[[], None]


class Workers(Executor):
    """A few daemon threads, which start when they are first needed and end with this object; safe to share.

    Args:
        count: How many.
        name: Begins the threads' names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._renew()
        _alive.add(self)

    def submit(
        self, function: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Future[_Result]:
        """Call a function in one of the threads; the calls that wait begin in their order.

        Args:
            function: What is called, in the caller's context and so under the caller's token.
            *args: Its arguments.
            **kwargs: Likewise.

        Returns:
            What will hold the result.
        """
        future: Future[_Result] = Future()
        call = partial(copy_context().run, _called, partial(function, *args, **kwargs))
        with self._starting:
            if len(self._threads) < self._count:
                self._start_one()
            self._waiting.put(partial(_serve, future, call))
        return future

    def call(
        self, function: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Call a function in one of the threads and wait for it; it is cancelled if the wait is interrupted.

        Args:
            function: What is called.
            *args: Its arguments.
            **kwargs: Likewise.

        Returns:
            What it returns.
        """
        with working() as token:
            future = self.submit(function, *args, **kwargs)
            try:
                return future.result()
            except BaseException:
                if not future.done():  # Ctrl-C, not an error of the function's
                    token.cancel()
                    future.cancel()
                raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Let the threads end when they have done what waits; they are not waited for."""
        self._ending()

    def _start_one(self) -> None:
        thread = threading.Thread(
            target=_work, args=(self._waiting,), name=f"{self._name}-{len(self._threads)}", daemon=True
        )
        thread.start()
        self._threads.append(thread)

    def _renew(self) -> None:
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._ending = weakref.finalize(self, _end, self._waiting, self._count)
        self._ending.atexit = False  # daemons need not be told


def _called(function: Callable[[], _Result]) -> _Result:
    between_groups()
    return function()


def _serve(future: Future[_Result], call: Callable[[], _Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it is the waiting caller's
        future.set_exception(error)
    else:
        future.set_result(result)


def _work(waiting: SimpleQueue[_Work | None]) -> None:
    stays()
    while work := waiting.get():
        with working():
            work()
            del work  # which may be the last that knows of a model


def _end(waiting: SimpleQueue[_Work | None], count: int) -> None:
    for _ in range(count):
        waiting.put(None)


_alive: weakref.WeakSet[Workers] = weakref.WeakSet()


def _renew_all() -> None:
    for workers in _alive:
        workers._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)  # threads do not survive a fork
