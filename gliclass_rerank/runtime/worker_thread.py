"""Dedicated worker thread with its own torch thread count.

Setting torch's count in one thread also changes the default of threads yet to call torch
(docs/decisions/0018-threads.md). So it is set once, in a thread that does nothing else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from gliclass_rerank.calls.workers import Workers
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.runtime.executor import Network
from gliclass_rerank.types import Blocks, TokenIds, Window

_Result = TypeVar("_Result")
_SETTING_UP: Final = threading.Lock()
_this_thread = threading.local()


class WorkerThread:
    """Network whose forward passes run one at a time in a dedicated thread, in calling order.

    Args:
        network: Network on the CPU.
        threads: CPU threads, regardless of the number of callers.

    Raises:
        ConfigError: This torch build has a single process-wide count.
    """

    def __init__(self, network: Network, threads: int) -> None:
        self._network = network
        self._threads = threads
        self._worker = Workers(1, "gliclass-rerank")
        if (found := self._run(torch.get_num_threads)) != threads:
            raise ConfigError(
                f"`threads` is {threads}, but this torch build has one count for the whole process, {found}: "
                "set it with `torch.set_num_threads`"
            )

    def window_logits(self, windows: Sequence[Window]) -> list[list[float]]:
        """Score windows in one padded forward pass."""
        return self._run(self._network.window_logits, windows)

    def block_logits(
        self, blocks: Blocks, groups: Sequence[Sequence[int]], cached: Mapping[int, NDArray[Any]], layer: int
    ) -> list[float]:
        """Score the candidates of one query."""
        return self._run(self._network.block_logits, blocks, groups, cached, layer)

    def candidate_states(self, rows: Sequence[TokenIds], layer: int) -> NDArray[np.float32]:
        """Compute query-independent candidate states at a layer's input."""
        return self._run(self._network.candidate_states, rows, layer)

    def passage_vectors(self, rows: Sequence[TokenIds]) -> NDArray[np.float32]:
        """Mean of the last states of passages that see no query."""
        return self._run(self._network.passage_vectors, rows)

    def _run(self, function: Callable[..., _Result], *args: Any) -> _Result:  # Any: the function's
        return self._worker.call(_with_threads, self._threads, function, *args)


def beside_exported_layers(network: Network) -> Network:
    """Run what torch computes beside exported layers on one thread.

    A team of OpenMP threads would go on spinning after each operator, in the time of the runtime's own threads.

    Args:
        network: Network with exported layers.

    Returns:
        The network in a worker thread; as it is if this torch build has a single process-wide count.
    """
    try:
        return WorkerThread(network, 1)
    except ConfigError:
        return network


def _with_threads(threads: int, function: Callable[..., _Result], *args: Any) -> _Result:  # Any: the function's
    if not hasattr(_this_thread, "is_set_up"):  # a forked process has a new one
        _set_up(threads)
        _this_thread.is_set_up = True
    return function(*args)


def _set_up(threads: int) -> None:
    with _SETTING_UP:
        # Read first: a thread's first read copies the process-wide count, and would undo ours later.
        everyones = torch.get_num_threads()
        torch.set_num_threads(threads)
        # This set the count of this thread and of all yet to call torch; another thread restores the latter.
        others = threading.Thread(target=torch.set_num_threads, args=(everyones,))
        others.start()
        others.join()


if hasattr(os, "register_at_fork"):
    # A fork in between would leave the lock taken and the count changed.
    os.register_at_fork(
        before=_SETTING_UP.acquire, after_in_parent=_SETTING_UP.release, after_in_child=_SETTING_UP.release
    )
