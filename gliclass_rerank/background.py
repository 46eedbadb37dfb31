"""A few threads for what must not block an event loop.

Not `asyncio.to_thread`: its threads are the loop's, up to 32 of them, which many rankings at once would take from
everything else, to compute in all of them with as many threads again as torch has.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _new_pool() -> ThreadPoolExecutor:
    # A ranking computes on all cores; the others search or tokenise meanwhile.
    return ThreadPoolExecutor(4, "gliclass-rerank-async")


_pool = _new_pool()


def _replace_pool() -> None:
    global _pool  # noqa: PLW0603 - threads do not survive a fork
    _pool = _new_pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_pool)


async def in_background(
    function: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Result:
    """Call a function in one of a few threads of the process; the calls that wait begin in their order.

    Cancelled before its turn, the call is never made; later, its result is dropped.

    Args:
        function: What is called, in the caller's context.
        *args: Its arguments.
        **kwargs: Likewise.

    Returns:
        What it returns.
    """
    call = partial(copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool, call)
