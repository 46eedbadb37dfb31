"""Calls from an event loop: how many run at once, whose errors they are, and what is left at the end."""

import asyncio
import contextvars
import subprocess
import sys
import threading
import time

import pytest

from gliclass_rerank import InputError, Reranker
from gliclass_rerank.calls.background import in_background


def test_sixty_four_calls_share_four_threads_and_begin_in_their_order():
    threads, begun = set(), []

    def work(number):
        threads.add(threading.get_ident())
        begun.append(number)
        time.sleep(0.005)
        return number

    async def main():
        return await asyncio.gather(*(in_background(work, number) for number in range(64)))

    assert asyncio.run(main()) == list(range(64))
    assert len(threads) <= 4
    assert all(abs(place - number) < 4 for place, number in enumerate(begun))


def test_the_loop_goes_on_and_context_travels():
    variable = contextvars.ContextVar("variable", default="unset")
    waiting = threading.Event()

    async def main():
        variable.set("set")
        call = asyncio.create_task(in_background(lambda: (waiting.wait(10), variable.get())))
        await asyncio.sleep(0)
        waiting.set()
        return await call

    assert asyncio.run(main()) == (True, "set")


def test_a_call_that_is_cancelled_before_its_turn_is_never_made():
    release, made = threading.Event(), []

    async def main():
        busy = [asyncio.create_task(in_background(release.wait, 10)) for _ in range(4)]
        late = asyncio.create_task(in_background(made.append, "late"))
        await asyncio.sleep(0.05)
        late.cancel()
        await asyncio.sleep(0.05)  # the loop hands it on in its next round
        release.set()
        await asyncio.gather(*busy)
        with pytest.raises(asyncio.CancelledError):
            await late
        await in_background(made.append, "after")

    asyncio.run(main())
    assert made == ["after"]


def test_one_callers_bad_input_fails_that_call_alone(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu")
    passages = ["chain oil", "brake squeal"]

    async def main():
        queries = ["chain", " ", "brake"]
        calls = (reranker.arank(query, passages) for query in queries)
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = asyncio.run(main())

    assert (first, third) == (reranker.rank("chain", passages), reranker.rank("brake", passages))
    assert isinstance(second, InputError)


def test_a_forked_process_has_threads_of_its_own_and_the_interpreter_ends():
    code = """
import asyncio, os, sys
from gliclass_rerank.calls.background import in_background
assert asyncio.run(in_background(int, "7")) == 7
child = os.fork() if hasattr(os, "fork") else None
if child == 0:
    os._exit(asyncio.run(in_background(int, "3")) != 3)
sys.exit(child and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
