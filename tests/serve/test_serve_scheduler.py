"""The queue: batches, order, sharing, cancelling and limits; the work is a function that a test holds up."""

import asyncio
import threading
import time

import pytest

from gliclass_rerank.calls.steps import between_groups
from gliclass_rerank.errors import InputError
from gliclass_rerank.serve.core import RequestError
from gliclass_rerank.serve.scheduler import Scheduler


class Work:
    """Doubles numbers; the first call waits for `release`."""

    def __init__(self):
        self.batches = []
        self.began, self.release = threading.Event(), threading.Event()

    def run(self, numbers):
        self.batches.append(list(numbers))
        self.began.set()
        while not self.release.is_set():
            between_groups()
            time.sleep(0.001)
        if -1 in numbers:
            raise InputError("no negative numbers")
        return [2 * number for number in numbers]

    async def has_begun(self):
        await asyncio.to_thread(self.began.wait)


def scheduler(**changes):
    return Scheduler(**{"slots": 1, "gather_tokens": 100, "max_waiting": 10, "max_age_s": 60.0} | changes)


def submit(queue, work, number, *, cost=10, key=None):
    return asyncio.ensure_future(queue.submit(number if key is None else key, work.run, number, cost=cost))


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


async def held_up(work, *, slots=1, **settings):
    """A scheduler all of whose slots are busy."""
    queue = scheduler(slots=slots, **settings)
    busy = [submit(queue, work, number=1000 + slot, cost=1) for slot in range(slots)]
    await work.has_begun()
    return queue, busy


async def released(work, *tasks):
    work.release.set()
    return [done.result for done in await asyncio.gather(*tasks)]


def test_a_request_starts_at_once_when_nothing_runs():
    async def main():
        work = Work()
        queue = scheduler()
        task = submit(queue, work, 1)
        await work.has_begun()
        assert (queue.num_waiting, queue.num_running) == (0, 1)
        assert await released(work, task) == [2]
        assert work.batches == [[1]]

    asyncio.run(main())


def test_requests_that_wait_are_scored_together_shortest_first():
    async def main():
        work = Work()
        queue, busy = await held_up(work)
        tasks = [submit(queue, work, number, cost=cost) for number, cost in ((1, 30), (2, 10), (3, 20))]
        await settled()
        assert queue.num_waiting == 3
        assert await released(work, *tasks, *busy) == [2, 4, 6, 2000]
        assert work.batches == [[1000], [2, 3, 1]]

    asyncio.run(main())


def test_a_batch_stays_within_its_budget():
    async def main():
        work = Work()
        queue, busy = await held_up(work)
        tasks = [submit(queue, work, number, cost=40) for number in (1, 2, 3)]
        await settled()
        await released(work, *tasks, *busy)
        assert work.batches == [[1000], [1, 2], [3]]

    asyncio.run(main())


def test_a_request_above_the_budget_is_scored_alone():
    async def main():
        work = Work()
        queue, busy = await held_up(work)
        tasks = [submit(queue, work, 1, cost=1000), submit(queue, work, 2, cost=90)]
        await settled()
        await released(work, *tasks, *busy)
        assert work.batches == [[1000], [2], [1]]

    asyncio.run(main())


def test_what_has_waited_too_long_goes_first():
    async def main():
        work = Work()
        queue, busy = await held_up(work, max_age_s=0.0)
        tasks = [submit(queue, work, 1, cost=90), submit(queue, work, 2, cost=50)]
        await settled()
        await released(work, *tasks, *busy)
        assert work.batches == [[1000], [1], [2]]

    asyncio.run(main())


def test_requests_of_different_models_are_not_mixed():
    async def main():
        work, other = Work(), Work()
        other.release.set()
        queue, busy = await held_up(work)
        tasks = [submit(queue, work, 1), submit(queue, other, 2), submit(queue, work, 3)]
        await settled()
        await released(work, *tasks, *busy)
        assert work.batches == [[1000], [1, 3]]
        assert other.batches == [[2]]

    asyncio.run(main())


def test_large_requests_leave_a_slot_to_short_ones():
    async def main():
        work, short = Work(), Work()
        short.release.set()
        queue = scheduler(slots=2)
        large = [submit(queue, work, number, cost=1000) for number in (1, 2)]
        await work.has_begun()
        await settled()
        assert (queue.num_running, queue.num_waiting) == (1, 1)
        (doubled,) = await released(short, submit(queue, short, 3))
        assert doubled == 6
        assert await released(work, *large) == [2, 4]

    asyncio.run(main())


def test_equal_requests_in_flight_run_once():
    async def main():
        work = Work()
        queue = scheduler()
        tasks = [submit(queue, work, 1) for _ in range(3)]
        await work.has_begun()
        assert await released(work, *tasks) == [2, 2, 2]
        assert work.batches == [[1]]

    asyncio.run(main())


def test_a_cancelled_request_leaves_the_queue():
    async def main():
        work = Work()
        queue, busy = await held_up(work)
        gone, stays = submit(queue, work, 1), submit(queue, work, 2)
        await settled()
        gone.cancel()
        await settled()
        assert queue.num_waiting == 1
        await released(work, stays, *busy)
        assert work.batches == [[1000], [2]]

    asyncio.run(main())


def test_one_of_several_callers_may_leave():
    async def main():
        work = Work()
        queue = scheduler()
        gone, stays = submit(queue, work, 1), submit(queue, work, 1)
        await work.has_begun()
        gone.cancel()
        await settled()
        assert await released(work, stays) == [2]
        assert work.batches == [[1]]

    asyncio.run(main())


def test_a_batch_that_nobody_waits_for_ends_and_frees_its_slot():
    async def main():
        work, next_one = Work(), Work()
        next_one.release.set()
        queue = scheduler()
        gone = submit(queue, work, 1)
        await work.has_begun()
        gone.cancel()
        (doubled,) = await released(next_one, submit(queue, next_one, 2))
        assert doubled == 4
        assert not work.release.is_set()  # it ended unfinished

    asyncio.run(main())


def test_an_equal_request_after_a_cancelled_one_is_computed_anew():
    async def main():
        work = Work()
        queue = scheduler()
        gone = submit(queue, work, 1)
        await work.has_begun()
        gone.cancel()
        await settled()
        assert await released(work, submit(queue, work, 1)) == [2]

    asyncio.run(main())


def test_a_full_queue_refuses_with_a_time_to_come_back():
    async def main():
        work = Work()
        queue, busy = await held_up(work, max_waiting=1)
        waits = submit(queue, work, 1)
        await settled()
        with pytest.raises(RequestError, match="1 requests are waiting already") as refused:
            await submit(queue, work, 2)
        assert refused.value.kind == "overloaded"
        assert 1 <= refused.value.retry_after <= 60
        same = submit(queue, work, 1)  # joins the one that waits
        assert await released(work, waits, same, *busy) == [2, 2, 2000]

    asyncio.run(main())


def test_one_bad_request_fails_alone():
    async def main():
        work = Work()
        queue, busy = await held_up(work)
        good, bad, better = (submit(queue, work, number) for number in (1, -1, 3))
        await settled()
        work.release.set()
        results = await asyncio.gather(good, bad, better, *busy, return_exceptions=True)
        assert isinstance(results[1], InputError)
        assert [results[0].result, results[2].result] == [2, 6]

    asyncio.run(main())


def test_the_time_in_the_queue_is_told():
    async def main():
        work = Work()
        queue, busy = await held_up(work)
        waits = submit(queue, work, 1)
        await asyncio.sleep(0.05)
        work.release.set()
        first, second = await asyncio.gather(*busy, waits)
        assert first.timing.inference_s >= 0.05
        assert second.timing.queue_s >= 0.05

    asyncio.run(main())
