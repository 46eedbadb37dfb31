"""Daemon worker threads, which never keep the process alive.

`ThreadPoolExecutor` joins its threads at interpreter exit, however long they work, and has none left after a fork.
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
    """Executor of a few daemon threads, started on demand and ended with this object; thread-safe.

    Args:
        count: Number of threads.
        name: Prefix of the threads' names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._renew()
        _alive.add(self)

    def submit(
        self, function: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Future[_Result]:
        """Submit a call; waiting calls start in order.

        Args:
            function: Function to call in the caller's context, under the caller's token.
            *args: Positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            Future of the result.
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
        """Call a function in a worker thread and wait for it; interrupting the wait cancels it.

        Args:
            function: Function to call.
            *args: Positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            Result of the function.
        """
        with working() as token:
            future = self.submit(function, *args, **kwargs)
            try:
                return future.result()
            except BaseException:
                if not future.done():  # Ctrl-C, not an error of the function
                    token.cancel()
                    future.cancel()
                raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Let the threads end after the waiting calls, without waiting for them."""
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
            del work  # it may hold the last reference to a model


def _end(waiting: SimpleQueue[_Work | None], count: int) -> None:
    for _ in range(count):
        waiting.put(None)


_alive: weakref.WeakSet[Workers] = weakref.WeakSet()


def _renew_all() -> None:
    for workers in _alive:
        workers._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)  # threads do not survive a fork
