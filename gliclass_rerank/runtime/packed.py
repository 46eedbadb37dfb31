"""Execution of packed sequences: requests of all plans fill passes up to the budget, and the host runs ahead.

A pass is launched while the device still computes the one before it, so that planning and packing cost no time of the
device. On an out-of-memory error the call halves its budget and resumes where it stopped.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Generic, NamedTuple

import torch
from torch import Tensor

from gliclass_rerank.calls.steps import between_groups, computing
from gliclass_rerank.errors import OutOfMemoryError
from gliclass_rerank.model.backbones.packable import packable
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.packed_scores import packed_block_logits, packed_window_logits
from gliclass_rerank.model.packing import Packer
from gliclass_rerank.prompt.planner import RequestT
from gliclass_rerank.runtime.attention import packed_attention
from gliclass_rerank.runtime.executor import Executor, TorchNetwork, logger
from gliclass_rerank.runtime.foreign_errors import as_backend_error
from gliclass_rerank.runtime.resolve import ResolvedRuntime
from gliclass_rerank.types import Blocks, Window

Launched = Callable[[], list[list[float]]]
"""Waits for a pass, and gives the logits of its requests."""


class PackedNetwork(TorchNetwork):
    """Uni-encoder that runs packed sequences.

    Args:
        model: Network; moved once.
        runtime: Resolved runtime with packed attention.
        plan: Attention plan.
    """

    def __init__(self, model: GLiClass, runtime: ResolvedRuntime, plan: AttentionPlan) -> None:
        super().__init__(model, runtime)
        assert runtime.attention != "padded", "padded rows have an executor of their own"
        runner = packable(model.blocks)
        runner.prepare_packed()
        self._attend = packed_attention(runtime.attention)
        self._launch = self._blocks if plan == "shared_query" else self._windows
        self._packer = Packer.of(
            model.config,
            runtime.device,
            positions_are_absolute=runner.positions_are_absolute,
            attends=runner.reach[-1] is not None,
        )

    @torch.inference_mode()
    def launch(self, requests: Sequence[Any]) -> Launched:  # Any: windows or blocks, depending on the plan
        """Start a pass without waiting for its result.

        Args:
            requests: At least one.

        Returns:
            Function that waits for the logits of each request's candidates, in order.

        Raises:
            OutOfMemoryError: The pass does not fit the device; a smaller one may.
            BackendError: Any other failure.
        """
        with computing, self._kernels, as_backend_error("torch failed"):
            return self._launch(requests)

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile the token-wise work of the layers, at the first passes, which takes seconds.

        Args:
            backend: Compiler, by `torch.compile`'s name.
        """
        packable(self._model.blocks).compile_packed(backend)

    def _blocks(self, requests: Sequence[Blocks]) -> Launched:
        logits = _leaving(packed_block_logits(self._model, self._packer.blocks(requests), self._attend))

        def wait() -> list[list[float]]:
            flat = iter(logits())
            return [[next(flat) for _ in request.candidate_ids] for request in requests]

        return wait

    def _windows(self, windows: Sequence[Window]) -> Launched:
        logits = _leaving(packed_window_logits(self._model, self._packer.windows(windows), self._attend))
        return lambda: [row[: len(window.markers)] for row, window in zip(logits(), windows, strict=True)]


def _leaving(logits: Tensor) -> Callable[[], list[Any]]:  # Any: nested lists of floats
    """Send logits to the host, and give a function that waits for them."""
    if logits.device.type != "cuda":
        return logits.float().tolist
    host = torch.empty(logits.shape, pin_memory=True)
    host.copy_(logits, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(logits.device))

    def wait() -> list[Any]:
        with computing, as_backend_error("torch failed"):
            done.synchronize()
            return host.tolist()

    return wait


class _Unit(NamedTuple):
    """Indivisible part of a pass: a candidate of blocks, or a window.

    Attributes:
        number: Number of its request.
        position: Position among the request's units.
        num_tokens: Its tokens.
        num_shared: Tokens that a pass needs once for all units of the request.
    """

    number: int
    position: int
    num_tokens: int
    num_shared: int


class _Units(Generic[RequestT]):
    """Units of requests in running order; requests are taken when they are needed.

    Args:
        requests: Requests.
        split: Units of a request, by its number.
        budget: Tokens of a pass; a larger unit has a pass of its own.
    """

    def __init__(
        self, requests: Iterable[RequestT], split: Callable[[int, RequestT], list[_Unit]], budget: int
    ) -> None:
        self.requests: list[RequestT] = []
        self._remaining: Iterator[RequestT] = iter(requests)
        self._split: Callable[[int, RequestT], list[_Unit]] = split
        self._pending, self._num_tokens, self._budget = deque[_Unit](), 0, budget

    def next_pass(self) -> list[_Unit]:
        """Take the units of the next pass; none at the end."""
        while self._num_tokens < self._budget and (request := next(self._remaining, None)) is not None:
            self._put(self._split(len(self.requests), request))
            self.requests.append(request)
        taken, num_tokens, last = list[_Unit](), 0, -1
        while self._pending:
            unit = self._pending[0]
            num_tokens += unit.num_tokens + (unit.num_shared if unit.number != last else 0)
            if taken and num_tokens > self._budget:
                break
            taken.append(self._pending.popleft())
            last = unit.number
        self._num_tokens -= sum(unit.num_tokens for unit in taken)
        return taken

    def put_back(self, units: Sequence[_Unit]) -> None:
        """Halve the budget for units that did not fit; re-raise the error being handled if there is one unit only."""
        num_tokens = sum(unit.num_tokens for unit in units)
        if len(units) == 1:
            raise  # noqa: PLE0704 - the error being handled
        logger.warning("out of memory with %d tokens in a batch, going on with half of it", num_tokens)
        self._budget = max(1, num_tokens // 2)
        self._pending.extendleft(reversed(units))
        self._num_tokens += num_tokens

    def _put(self, units: Sequence[_Unit]) -> None:
        self._pending += units
        self._num_tokens += sum(unit.num_tokens for unit in units)


def _by_request(units: Sequence[_Unit]) -> list[list[_Unit]]:
    return [[*each] for _, each in groupby(units, lambda unit: unit.number)]


def _collect(units: Sequence[_Unit], wait: Launched, found: dict[int, dict[int, list[float]]]) -> int:
    """Wait for a pass and keep its logits, whose number is returned, by request and unit."""
    rows = wait()
    for each, row in zip(_by_request(units), rows, strict=True):
        # A unit alone has all of its request's logits: a window has several.
        parts = [row] if len(each) == 1 else [[logit] for logit in row]
        for unit, logits in zip(each, parts, strict=True):
            found[unit.number][unit.position] = logits
    return sum(map(len, rows))


class PackedExecutor(Executor[RequestT]):
    """Executor of packed sequences.

    Args:
        network: Packed passes.
        batch_tokens: Budget of a pass in tokens.
    """

    network: PackedNetwork

    def logits(self, requests: Iterable[RequestT]) -> list[list[float]]:
        """Compute the logits of each request's candidates, in request order."""
        queue = _Units(requests, self._units, self.batch_tokens)
        found = defaultdict[int, dict[int, list[float]]](dict)
        launched, num_scored = deque[tuple[list[_Unit], Launched]](), 0
        while units := queue.next_pass():
            between_groups(num_scored)
            parts = [self._part(queue.requests[each[0].number], each) for each in _by_request(units)]
            try:
                launched.append((units, self.network.launch(parts)))
            except OutOfMemoryError:
                queue.put_back(units)
            num_scored = _collect(*launched.popleft(), found) if len(launched) > 1 else 0
        for units, wait in launched:
            _collect(units, wait, found)
        rows = (found[number] for number in range(len(queue.requests)))
        return [[logit for position in sorted(row) for logit in row[position]] for row in rows]

    @abstractmethod
    def _units(self, number: int, request: RequestT) -> list[_Unit]:
        """Units of a request."""

    @abstractmethod
    def _part(self, request: RequestT, units: Sequence[_Unit]) -> RequestT:
        """Request with some of its units."""


class PackedBlockExecutor(PackedExecutor[Blocks]):
    """Executor for queries, whose candidates are distributed over as many passes as they need."""

    def _units(self, number: int, request: Blocks) -> list[_Unit]:
        ids, num_shared = request.candidate_ids, len(request.query_ids)
        # An order of their own, so that the caller's changes no bit.
        order = sorted(range(len(ids)), key=lambda index: (-len(ids[index]), ids[index]))
        return [_Unit(number, index, len(ids[index]), num_shared) for index in order]

    def _part(self, request: Blocks, units: Sequence[_Unit]) -> Blocks:
        return Blocks(request.query_ids, tuple(request.candidate_ids[unit.position] for unit in units))


class PackedWindowExecutor(PackedExecutor[Window]):
    """Executor for windows."""

    def _units(self, number: int, request: Window) -> list[_Unit]:
        return [_Unit(number, 0, len(request.token_ids), 0)]

    def _part(self, request: Window, units: Sequence[_Unit]) -> Window:  # noqa: ARG002 - a window is one unit
        return request


def packed_executor(model: GLiClass, runtime: ResolvedRuntime, plan: AttentionPlan) -> PackedExecutor[Any]:
    """Build the executor of a uni-encoder whose runtime has packed attention."""  # Any: windows or blocks
    kind: type[PackedExecutor[Any]] = PackedBlockExecutor if plan == "shared_query" else PackedWindowExecutor
    return kind(PackedNetwork(model, runtime, plan), batch_tokens=runtime.batch_tokens)
