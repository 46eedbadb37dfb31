"""Orders work by length, batches it under a token budget, and puts the results back into input order."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from gliclass_rerank.calls.forks import between_groups
from gliclass_rerank.errors import BackendError, OutOfMemoryError
from gliclass_rerank.runtime.backend import Backend
from gliclass_rerank.runtime.passage_cache import PassageCache
from gliclass_rerank.types import Blocks, CachedStates, Window

logger = logging.getLogger(__name__)

_PADDING_SHARE = 16
# Tokens of one forward pass. On a CPU small batches stay in the cache and need no padding; a GPU wants to be filled.
_CPU_BATCH_TOKENS = 2048
_GPU_BATCH_TOKENS = 65536


def default_batch_tokens(*, on_cpu: bool) -> int:
    """Tokens of one forward pass, padding included, where nobody says otherwise."""
    return _CPU_BATCH_TOKENS if on_cpu else _GPU_BATCH_TOKENS


class Engine:
    """Runs requests through a backend; safe to share between threads.

    When the device runs out of memory the budget of this call is halved and the work goes on where it stopped.

    Args:
        backend: Runs forward passes.
        batch_tokens: Tokens of one of them, padding included.
        passage_cache: Where states of candidates of `Blocks` are looked up; None looks nothing up.
    """

    def __init__(self, backend: Backend, *, batch_tokens: int, passage_cache: PassageCache | None = None) -> None:
        self._backend = backend
        self._batch_tokens = batch_tokens
        self._cache = passage_cache

    def run(self, requests: Sequence[Window | Blocks]) -> list[list[float]]:
        """Score requests.

        Args:
            requests: Windows and blocks; may be empty.

        Returns:
            For each request, in input order, the logits of its candidates.

        Raises:
            OutOfMemoryError: Not even one sequence fits the device.
            BackendError: The forward pass failed or gave a NaN.
            SystemExit: The call was cancelled.
        """
        windows = {index: request for index, request in enumerate(requests) if isinstance(request, Window)}
        blocks = {index: request for index, request in enumerate(requests) if isinstance(request, Blocks)}
        logits = self._run_windows(windows) | {index: self._run_blocks(request) for index, request in blocks.items()}
        if any(math.isnan(logit) for row in logits.values() for logit in row):
            raise BackendError("the model gave NaN as a logit; its weights or its precision are at fault")
        return [logits[index] for index in range(len(requests))]

    def _run_windows(self, windows: Mapping[int, Window]) -> dict[int, list[float]]:
        pending = {index: len(window.token_ids) for index, window in windows.items()}
        results: dict[int, list[float]] = {}
        budget = self._batch_tokens
        while pending:
            for batch in length_groups(pending, budget):
                between_groups()
                try:
                    rows = self._backend.logits([windows[index] for index in batch])
                except OutOfMemoryError:
                    if len(batch) == 1:
                        raise
                    budget = _halved(len(batch) * pending[batch[0]])
                    break
                results.update(zip(batch, rows, strict=True))
                for index in batch:
                    del pending[index]
        return results

    def _run_blocks(self, blocks: Blocks) -> list[float]:
        lengths = {index: len(ids) for index, ids in enumerate(blocks.candidate_ids)}
        known = {} if self._cache is None else self._cache.find(blocks.candidate_ids)
        budget = self._batch_tokens
        while True:
            between_groups()
            # Apart, because a group starts at one layer.
            groups = length_groups({index: lengths[index] for index in lengths.keys() - known.keys()}, budget)
            found = length_groups({index: lengths[index] for index in known}, budget)
            states = self._states(found, known, lengths, first=len(groups))
            groups += found
            try:
                (logits,) = self._backend.logits(blocks, groups, states)
            except OutOfMemoryError:
                largest = max(groups, key=lambda group: len(group) * lengths[group[0]])
                if len(largest) == 1:
                    raise
                budget = _halved(len(largest) * lengths[largest[0]])
                continue
            return logits

    def _states(
        self,
        groups: Sequence[Sequence[int]],
        known: Mapping[int, int],
        lengths: Mapping[int, int],
        *,
        first: int,
    ) -> CachedStates | None:
        """The states of groups that are numbered from `first` on."""
        if self._cache is None or not groups:
            return None
        read: dict[int, NDArray[Any]] = {}  # Any: half or single precision
        for number, group in enumerate(groups, start=first):
            between_groups()
            read[number] = self._cache.states([(known[index], lengths[index]) for index in group])
        return CachedStates(self._cache.meta.layer, read)


def _halved(tokens: int) -> int:
    logger.warning("out of memory with %d tokens in a batch, going on with half of it", tokens)
    return max(1, tokens // 2)


def length_groups(lengths: Mapping[int, int], budget: int) -> list[list[int]]:
    """Group items of similar length, longest first.

    A group wastes at most a fixed share of the budget on padding: an early cut costs one more forward pass, which is
    little on a CPU, where budgets are small, and much on a GPU.

    Args:
        lengths: Tokens by item.
        budget: Tokens of a group, padding included; an item longer than that is a group of its own.

    Returns:
        Keys of `lengths`, each once.
    """
    groups: list[list[int]] = []
    width = padding = 0
    for item in sorted(lengths, key=lambda key: (-lengths[key], key)):
        padding += width - lengths[item]
        if not groups or width * (len(groups[-1]) + 1) > budget or padding > budget // _PADDING_SHARE:
            groups.append([])
            width, padding = lengths[item], 0
        groups[-1].append(item)
    return groups
