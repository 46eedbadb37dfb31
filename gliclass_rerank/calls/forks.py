"""Computing in processes that a fork has made.

A process has one thread after a fork. What other threads were in the middle of stays as it was, locks of native
libraries included, so a fork waits for the forward passes that run, and those that follow wait for the fork. The thread
that is left cannot compute either if it has before: it would wait for OpenMP's threads, which were its helpers and are
gone. So another thread stands in for it (docs/decisions/0030-cancelled-and-forked.md).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from gliclass_rerank.calls.steps import computing
from gliclass_rerank.calls.workers import Workers

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_TOKENIZERS_SETTING: Final = "TOKENIZERS_PARALLELISM"


_stand_in = Workers(1, "gliclass-rerank-forked")


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
    if threading.get_ident() == computing.survivor:
        return _stand_in.call(function, *args, **kwargs)
    return function(*args, **kwargs)


def _begin_anew() -> None:
    computing.renew()
    computing.survivor = threading.get_ident()
    # The tokenizers' threads are gone too. They see to that, but not where they were told to use them.
    if _TOKENIZERS_SETTING in os.environ:
        os.environ[_TOKENIZERS_SETTING] = "false"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=computing.close, after_in_parent=computing.open, after_in_child=_begin_anew)
