"""Scheduling of concurrent requests into batches under a token budget.

A request starts at once if a slot is free: there is no timer. Otherwise it waits until a batch ends, and the next batch
takes the shortest requests, after those that have waited longer than `max_age_s`. Equal requests in flight run once.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from gliclass_rerank.calls.background import in_background
from gliclass_rerank.serve.core import RequestError, Timing

Payload = TypeVar("Payload")
Result = TypeVar("Result")
Run = Callable[[Sequence[Payload]], Sequence[Result]]

_LONGEST_RETRY_S: Final = 60
# Weight of the newest batch in the running mean of the speed.
_NEWEST_SHARE: Final = 0.2
_FIRST_GUESS_TOKENS_PER_S: Final = 1000.0


@dataclass(eq=False)
class _Job:
    """Request in the queue or in a batch; `waiters` callers wait for `done`."""

    key: Hashable
    run: Run[Any, Any]  # Any: each run has its own types
    payload: Any
    cost: int
    done: asyncio.Future[Any]
    queued_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    waiters: int = 0
    batch: asyncio.Task[None] | None = None


@dataclass(frozen=True)
class Done(Generic[Result]):
    """Result of a request, with the seconds it took."""

    result: Result
    timing: Timing


class Scheduler:
    """Queue and batches of one event loop.

    Args:
        slots: Batches computed at the same time. With several, requests above the budget leave one free.
        gather_tokens: Budget of a batch.
        max_waiting: Requests that may wait.
        max_age_s: Seconds after which a request goes before shorter ones.
        on_batch: Callback with the number of requests and tokens of each batch that starts.
    """

    def __init__(
        self,
        *,
        slots: int,
        gather_tokens: int,
        max_waiting: int,
        max_age_s: float,
        on_batch: Callable[[int, int], object] = lambda requests, tokens: None,  # noqa: ARG005 # names the arguments
    ) -> None:
        self._slots = slots
        self._budget = gather_tokens
        self._max_waiting = max_waiting
        self._max_age_s = max_age_s
        self._on_batch = on_batch
        self._waiting: dict[_Job, None] = {}  # in order of arrival
        self._in_flight: dict[Hashable, _Job] = {}
        self._running: dict[asyncio.Task[None], list[_Job]] = {}
        self._tokens_per_s = _FIRST_GUESS_TOKENS_PER_S

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests in batches."""
        return sum(map(len, self._running.values()))

    async def submit(self, key: Hashable, run: Run[Payload, Result], payload: Payload, *, cost: int) -> Done[Result]:
        """Run a request, in a batch with others of the same `run`.

        Args:
            key: Identity: equal keys in flight share one result.
            run: Function from payloads to one result each, called in a worker thread.
            payload: Argument.
            cost: Tokens, estimated.

        Returns:
            Result and timing.

        Raises:
            RequestError: The queue is full.
        """
        job = self._in_flight.get(key)
        if job is None:
            if len(self._waiting) >= self._max_waiting:
                raise RequestError(
                    "overloaded",
                    f"{len(self._waiting)} requests are waiting already, try again later",
                    retry_after=self._retry_after(),
                )
            job = _Job(key, run, payload, cost, asyncio.get_running_loop().create_future())
            self._in_flight[key] = job
            self._waiting[job] = None
            self._start_batches()
        job.waiters += 1
        try:
            result = await asyncio.shield(job.done)
        finally:
            job.waiters -= 1
            if not job.waiters and not job.done.done():
                self._abandon(job)
        now = time.monotonic()
        return Done(result, Timing(job.started_at - job.queued_at, now - job.started_at))

    def _retry_after(self) -> int:
        seconds = sum(job.cost for job in self._waiting) / self._tokens_per_s
        return max(1, min(_LONGEST_RETRY_S, math.ceil(seconds)))

    def _abandon(self, job: _Job) -> None:
        """Drop a request that nobody waits for; a batch of nothing else ends at its next step."""
        self._forget(job)
        job.done.cancel()
        self._waiting.pop(job, None)
        if job.batch is not None and not any(other.waiters for other in self._running.get(job.batch, ())):
            job.batch.cancel()

    def _forget(self, job: _Job) -> None:
        if self._in_flight.get(job.key) is job:  # else an equal request came after this one was abandoned
            del self._in_flight[job.key]

    def _start_batches(self) -> None:
        while len(self._running) < self._slots and (batch := self._next_batch()):
            for job in batch:
                del self._waiting[job]
                job.started_at = time.monotonic()
            task = asyncio.get_running_loop().create_task(self._run(batch))
            for job in batch:
                job.batch = task
            self._running[task] = batch
            task.add_done_callback(self._finished)
            self._on_batch(len(batch), sum(job.cost for job in batch))

    def _next_batch(self) -> list[_Job]:
        overdue = time.monotonic() - self._max_age_s
        large = sum(any(job.cost > self._budget for job in batch) for batch in self._running.values())
        may_be_large = self._slots == 1 or large < self._slots - 1
        ready = [job for job in self._waiting if may_be_large or job.cost <= self._budget]
        # The sort is stable: overdue requests stay in order of arrival.
        ready.sort(key=lambda job: (0, 0) if job.queued_at <= overdue else (1, job.cost))
        batch: list[_Job] = []
        left = self._budget
        for job in ready:
            if not batch or (job.run == batch[0].run and job.cost <= left):
                batch.append(job)
                left -= job.cost
        return batch

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._start_batches()

    async def _run(self, batch: Sequence[_Job]) -> None:
        began = time.monotonic()
        try:
            results = await in_background(batch[0].run, [job.payload for job in batch])
        except Exception as error:  # noqa: BLE001 - it is the callers'
            if len(batch) == 1:
                self._fail(batch[0], error)
                return
            for job in batch:  # one of them is to blame, and the others shall not suffer
                if not job.done.done():
                    await self._run([job])
            return
        speed = sum(job.cost for job in batch) / max(time.monotonic() - began, 1e-6)
        self._tokens_per_s += _NEWEST_SHARE * (speed - self._tokens_per_s)
        for job, result in zip(batch, results, strict=True):
            self._forget(job)
            if not job.done.done():
                job.done.set_result(result)

    def _fail(self, job: _Job, error: Exception) -> None:
        self._forget(job)
        if not job.done.done():
            job.done.set_exception(error)
            job.done.exception()  # marked as seen: the last waiter may be leaving
