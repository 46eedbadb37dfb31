"""Worker threads for blocking calls of an event loop.

`asyncio.to_thread` shares up to 32 threads of the loop: concurrent rankings would occupy them all, each with torch's
own threads on top.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, ParamSpec, TypeVar

from gliclass_rerank.calls.steps import Token, working
from gliclass_rerank.calls.workers import Workers

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# One ranking computes on all cores while others search or tokenise.
_pool: Final = Workers(4, "gliclass-rerank-async")


async def in_background(
    function: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Result:
    """Await a blocking call in a worker thread; waiting calls start in order.

    A call cancelled before its turn is never made; a running one ends at its next step.

    Args:
        function: Function to call in the caller's context.
        *args: Positional arguments.
        **kwargs: Keyword arguments.

    Returns:
        Result of the function.
    """
    token = Token()
    try:
        return await asyncio.wrap_future(_pool.submit(_under, token, partial(function, *args, **kwargs)))
    finally:
        token.cancel()  # nobody waits any more


def _under(token: Token, function: Callable[[], _Result]) -> _Result:
    with working(token):
        return function()
