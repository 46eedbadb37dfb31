"""Execution of token plans: batches under a token budget, logits in candidate order.

On an out-of-memory error the call halves its budget and resumes where it stopped.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, tee
from typing import Any, Generic, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gliclass_rerank.calls.steps import between_groups, computing
from gliclass_rerank.errors import BackendError, OutOfMemoryError
from gliclass_rerank.model.backbones.interface import LayerRunner
from gliclass_rerank.model.batch import Collator, LayerStates, length_groups
from gliclass_rerank.model.full_attention import run_backbone
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.prompt.planner import RequestT, TokenPlan
from gliclass_rerank.runtime.bucketing import fill_layers
from gliclass_rerank.runtime.foreign_errors import as_backend_error, backend_error
from gliclass_rerank.runtime.passage_cache import PassageCache
from gliclass_rerank.runtime.resolve import ResolvedRuntime
from gliclass_rerank.runtime.sdpa_kernels import quick_kernels
from gliclass_rerank.types import Blocks, TokenIds, Window

logger = logging.getLogger(__name__)


class Network(Protocol):
    """Forward passes from token ids to numbers; thread-safe."""

    def window_logits(self, windows: Sequence[Window]) -> list[list[float]]:
        """Score windows in one padded forward pass.

        Args:
            windows: At least one.

        Returns:
            Candidate logits of each window, in marker order.

        Raises:
            OutOfMemoryError: The batch does not fit the device; a smaller one may.
            BackendError: Any other failure.
        """
        ...

    def block_logits(
        self, blocks: Blocks, groups: Sequence[Sequence[int]], cached: Mapping[int, NDArray[Any]], layer: int
    ) -> list[float]:
        """Score the candidates of one query.

        Args:
            blocks: Query and candidates.
            groups: Batches in running order: positions in `candidate_ids`, each exactly once.
            cached: Candidate states by group number: FloatArray [num_rows, seq_len, hidden], float16 or float32,
                zero-padded on the right.
            layer: Layer whose input the cached states are.

        Returns:
            Logits in the order of `candidate_ids`.

        Raises:
            OutOfMemoryError: The batch does not fit the device; a smaller one may.
            BackendError: Any other failure.
        """
        ...

    def candidate_states(self, rows: Sequence[TokenIds], layer: int) -> NDArray[np.float32]:
        """Compute query-independent candidate states at a layer's input; uni-encoders only.

        Args:
            rows: Token ids of the candidates; at least one.
            layer: At most the first layer in which candidates see the query.

        Returns:
            FloatArray [num_rows, seq_len, hidden]; positions beyond a row's end are undefined.

        Raises:
            OutOfMemoryError: The batch does not fit the device; a smaller one may.
        """
        ...

    def passage_vectors(self, rows: Sequence[TokenIds]) -> NDArray[np.float32]:
        """Mean of the last states of passages that see no query.

        Args:
            rows: Token ids of the passages; at least one.

        Returns:
            FloatArray [num_rows, hidden].

        Raises:
            OutOfMemoryError: The batch does not fit the device; a smaller one may.
        """
        ...


class TorchNetwork:
    """Network on its device, with its backbone layers in torch or in another runtime.

    Args:
        model: Network; moved once.
        runtime: Resolved runtime.
        runner: Layer runner of a `GLiClass`; None for torch.
    """

    def __init__(self, model: ScoringHead, runtime: ResolvedRuntime, runner: LayerRunner | None = None) -> None:
        self._model: Any = model.to(runtime.device)  # Any: an architecture scores windows, blocks or both
        self._options = {} if runner is None else {"runner": runner}
        self._collate = Collator.of(model.config, runtime.device)
        self._kernels = quick_kernels(runtime.device)
        for encoder in model.encoders:
            encoder.to(runtime.torch_dtype)
            if runtime.device.type == "cpu" and runtime.torch_dtype != torch.float32:
                fill_layers(encoder)

    @torch.inference_mode()
    def window_logits(self, windows: Sequence[Window]) -> list[list[float]]:
        """Score windows; see `Network.window_logits`."""
        with computing, self._kernels:
            try:
                rows = self._model.score_windows(self._collate.windows(windows), **self._options).float().tolist()
            except Exception as error:
                raise backend_error("torch failed", error) from error
        return [row[: len(window.markers)] for row, window in zip(rows, windows, strict=True)]

    @torch.inference_mode()
    def block_logits(
        self, blocks: Blocks, groups: Sequence[Sequence[int]], cached: Mapping[int, NDArray[Any]], layer: int
    ) -> list[float]:
        """Score the candidates of one query; see `Network.block_logits`."""
        with computing, self._kernels:
            try:
                known = {
                    number: LayerStates(layer, torch.from_numpy(states).to(self._collate.device))
                    for number, states in cached.items()
                }
                flat = self._model.score_blocks(self._collate.blocks(blocks, groups, known), **self._options)
                by_index = dict(zip(chain.from_iterable(groups), flat.float().tolist(), strict=True))
            except Exception as error:
                raise backend_error("torch failed", error) from error
        return [by_index[index] for index in range(len(by_index))]

    @torch.inference_mode()
    def candidate_states(self, rows: Sequence[TokenIds], layer: int) -> NDArray[np.float32]:
        """Compute query-independent candidate states at a layer's input."""
        between_groups()
        with computing, self._kernels, as_backend_error("torch failed"):
            states = self._model.candidate_states(self._collate.rows(rows), layer)
            array: NDArray[np.float32] = states.float().cpu().numpy()
        return array

    @torch.inference_mode()
    def passage_vectors(self, rows: Sequence[TokenIds]) -> NDArray[np.float32]:
        """Mean of the last states of passages that see no query."""
        between_groups()
        with computing, self._kernels, as_backend_error("torch failed"):
            tokens = self._collate.rows(rows)
            (states,) = run_backbone(self._model.passage_encoder, tokens)
            weights = tokens.mask[..., None].float()
            vectors: NDArray[np.float32] = ((states.float() * weights).sum(1) / weights.sum(1)).cpu().numpy()
        return vectors


class Executor(ABC, Generic[RequestT]):
    """Executor of the requests of one attention plan; thread-safe.

    Args:
        network: Forward passes.
        batch_tokens: Budget of a forward pass in tokens, padding included.
        has_tight_groups: Limit padding to a share of a group's own tokens; see `length_groups`.
    """

    def __init__(self, network: Network, *, batch_tokens: int, has_tight_groups: bool = True) -> None:
        self.network = network
        self.batch_tokens = batch_tokens
        self._groups = partial(length_groups, is_tight=has_tight_groups)

    def run(self, plans: Iterable[TokenPlan[RequestT]]) -> list[list[float]]:
        """Score the candidates of several plans together.

        Args:
            plans: Token plans; a plan may have no request. A plan is taken when its requests are needed.

        Returns:
            Logits of each plan's candidates, in their order.

        Raises:
            OutOfMemoryError: Not even one sequence fits the device.
            BackendError: The forward pass failed or returned NaN.
            SystemExit: The call was cancelled.
        """
        plans, taken = tee(plans)
        rows = iter(self.logits(request for plan in plans for request in plan.requests))
        results = []
        for plan in taken:
            logits: dict[int, float] = {}
            for members in plan.members:
                logits.update(zip(members, next(rows), strict=True))
            if any(math.isnan(logit) for logit in logits.values()):
                raise BackendError("the model gave NaN as a logit; check its weights and precision")
            results.append([logits[index] for index in range(len(logits))])
        return results

    @abstractmethod
    def logits(self, requests: Iterable[RequestT]) -> list[list[float]]:
        """Compute the logits of each request, in request order."""


class WindowExecutor(Executor[Window]):
    """Executor for windows; windows of several plans share padded forward passes."""

    def logits(self, requests: Iterable[Window]) -> list[list[float]]:
        """Compute each window's candidate logits, in marker order."""
        requests = tuple(requests)
        pending = {index: len(window.token_ids) for index, window in enumerate(requests)}
        results: dict[int, list[float]] = {}
        budget, num_scored = self.batch_tokens, 0
        while pending:
            for batch in self._groups(pending, budget):
                between_groups(num_scored)
                try:
                    rows = self.network.window_logits([requests[index] for index in batch])
                except OutOfMemoryError:
                    budget = _halved(batch, pending)
                    break
                results.update(zip(batch, rows, strict=True))
                num_scored = sum(map(len, rows))
                for index in batch:
                    del pending[index]
        return [results[index] for index in range(len(requests))]


class BlockExecutor(Executor[Blocks]):
    """Executor for one query at a time, whose candidates run in groups of similar length.

    Args:
        network: Forward passes.
        batch_tokens: Budget of a group in tokens, padding included.
        has_tight_groups: As for `Executor`.
        passage_cache: Precomputed candidate states; None for none.
    """

    def __init__(
        self,
        network: Network,
        *,
        batch_tokens: int,
        has_tight_groups: bool = True,
        passage_cache: PassageCache | None = None,
    ) -> None:
        super().__init__(network, batch_tokens=batch_tokens, has_tight_groups=has_tight_groups)
        self._cache = passage_cache

    def logits(self, requests: Iterable[Blocks]) -> list[list[float]]:
        """Compute the logits of each query's candidates."""
        budget, results, requests = self.batch_tokens, list[list[float]](), tuple(requests)
        while len(results) < len(requests):
            between_groups()
            blocks = requests[len(results)]
            lengths = {index: len(ids) for index, ids in enumerate(blocks.candidate_ids)}
            found = {} if self._cache is None else self._cache.find(blocks.candidate_ids)
            # Separate groups, because all rows of a group start at the same layer.
            groups = self._groups({index: lengths[index] for index in lengths.keys() - found.keys()}, budget)
            states: dict[int, NDArray[Any]] = {}
            if self._cache is not None:
                for group in self._groups({index: lengths[index] for index in found}, budget):
                    between_groups()
                    states[len(groups)] = self._cache.states([(found[index], lengths[index]) for index in group])
                    groups.append(group)
            layer = 0 if self._cache is None else self._cache.layer
            try:
                results.append(self.network.block_logits(blocks, groups, states, layer))
            except OutOfMemoryError:
                largest = max(groups, key=lambda group: len(group) * lengths[group[0]])
                budget = _halved(largest, lengths)
        return results


def _halved(batch: Sequence[int], lengths: Mapping[int, int]) -> int:
    """Half of a batch's tokens; re-raises the out-of-memory error being handled if the batch cannot be split."""
    tokens = len(batch) * lengths[batch[0]]
    if len(batch) == 1:
        raise  # noqa: PLE0704 - the error being handled
    logger.warning("out of memory with %d tokens in a batch, going on with half of it", tokens)
    return max(1, tokens // 2)
