"""A few threads for what must not block an event loop.

Not `asyncio.to_thread`: its threads are the loop's, up to 32 of them, which many rankings at once would take from
everything else, to compute in all of them with as many threads again as torch has.
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

# A ranking computes on all cores; the others search or tokenise meanwhile.
_pool: Final = Workers(4, "gliclass-rerank-async")


async def in_background(
    function: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Result:
    """Call a function in one of a few threads of the process; the calls that wait begin in their order.

    Cancelled before its turn, the call is never made; later, it ends at its next step.

    Args:
        function: What is called, in the caller's context.
        *args: Its arguments.
        **kwargs: Likewise.

    Returns:
        What it returns.
    """
    token = Token()
    try:
        return await asyncio.wrap_future(_pool.submit(_under, token, partial(function, *args, **kwargs)))
    finally:
        token.cancel()  # nobody waits any more, for whatever reason


def _under(token: Token, function: Callable[[], _Result]) -> _Result:
    with working(token):
        return function()
