"""Orders work by length, batches it under a token budget, and puts the results back into input order."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from gliclass_rerank.engine.backend import Backend
from gliclass_rerank.errors import BackendError, OutOfMemoryError
from gliclass_rerank.types import Blocks, Window

logger = logging.getLogger(__name__)


class Engine:
    """Runs requests through a backend; safe to share between threads.

    When the device runs out of memory the budget of this call is halved and the work goes on where it stopped.
    """

    def __init__(self, backend: Backend, *, batch_tokens: int) -> None:
        self._backend = backend
        self._batch_tokens = batch_tokens

    def run(self, requests: Sequence[Window | Blocks]) -> list[list[float]]:
        """Score requests.

        Args:
            requests: Windows and blocks; may be empty.

        Returns:
            For each request, in input order, the logits of its candidates.

        Raises:
            OutOfMemoryError: Not even one sequence fits the device.
            BackendError: The forward pass failed or gave a NaN.
        """
        windows = {index: request for index, request in enumerate(requests) if isinstance(request, Window)}
        blocks = {index: request for index, request in enumerate(requests) if isinstance(request, Blocks)}
        logits = self._run_windows(windows) | {index: self._run_blocks(request) for index, request in blocks.items()}
        if any(math.isnan(logit) for row in logits.values() for logit in row):
            raise BackendError("the model gave NaN as a logit; its weights or its precision are at fault")
        return [logits[index] for index in range(len(requests))]

    def _run_windows(self, windows: Mapping[int, Window]) -> dict[int, list[float]]:
        # Longest first, so that the first window of a batch sets its width.
        pending = sorted(windows, key=lambda index: (-len(windows[index].token_ids), index))
        results: dict[int, list[float]] = {}
        budget = self._batch_tokens
        while pending:
            width = len(windows[pending[0]].token_ids)
            batch = pending[: max(1, budget // width)]
            try:
                rows = self._backend.logits([windows[index] for index in batch])
            except OutOfMemoryError:
                if len(batch) == 1:
                    raise
                budget = _halved(len(batch) * width)
                continue
            results.update(zip(batch, rows, strict=True))
            pending = pending[len(batch) :]
        return results

    def _run_blocks(self, blocks: Blocks) -> list[float]:
        lengths = [len(ids) for ids in blocks.candidate_ids]
        budget = self._batch_tokens
        while True:
            groups = _length_groups(lengths, budget)
            try:
                (logits,) = self._backend.logits(blocks, groups)
            except OutOfMemoryError:
                largest = max(groups, key=lambda group: len(group) * lengths[group[0]])
                if len(largest) == 1:
                    raise
                budget = _halved(len(largest) * lengths[largest[0]])
                continue
            return logits


def _halved(tokens: int) -> int:
    logger.warning("out of memory with %d tokens in a batch, going on with half of it", tokens)
    return max(1, tokens // 2)


def _length_groups(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group positions of similar length, longest first, each group within the budget or a single item."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    groups = []
    while order:
        size = max(1, budget // lengths[order[0]])
        groups.append(order[:size])
        order = order[size:]
    return groups
