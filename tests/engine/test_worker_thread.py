"""Who sees which number of torch's threads."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from gliclass_rerank import OutOfMemoryError
from gliclass_rerank.runtime.worker_thread import WorkerThread
from gliclass_rerank.types import Window


class Asking:
    """A backend whose logits are the number of threads that it may use."""

    def window_logits(self, batch):
        return [[float(torch.get_num_threads())] for _ in batch]


def seen_by(backend):
    return backend.window_logits([Window((1,), (0,), 0)])[0][0]


def in_a_new_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_forward_passes_have_their_instances_number_and_nobody_else_does():
    torch.set_num_threads(2)
    with ThreadPoolExecutor(1) as earlier:
        assert earlier.submit(torch.get_num_threads).result() == 2

        one, three = WorkerThread(Asking(), 1), WorkerThread(Asking(), 3)

        assert (seen_by(one), seen_by(three)) == (1, 3)
        assert (torch.get_num_threads(), earlier.submit(torch.get_num_threads).result()) == (2, 2)
        assert in_a_new_thread(torch.get_num_threads) == 2
        assert in_a_new_thread(lambda: seen_by(three)) == 3


def test_a_later_change_for_the_process_is_kept_and_leaves_the_instance_alone():
    three = WorkerThread(Asking(), 3)

    torch.set_num_threads(2)

    assert seen_by(three) == 3
    assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (2, 2)


def test_many_instances_made_at_once_leave_the_process_its_number():
    torch.set_num_threads(2)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda count: WorkerThread(Asking(), count), [1, 3, 4, 5] * 8))

    assert [seen_by(backend) for backend in made] == [1, 3, 4, 5] * 8
    assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (2, 2)


class Slow:
    """Keeps in which order batches came, and how many ran at once."""

    def __init__(self):
        self.running = self.most = 0
        self.order = []

    def window_logits(self, batch):
        self.running += 1
        self.most = max(self.most, self.running)
        self.order.append(batch[0].token_ids[0])
        time.sleep(0.01)
        self.running -= 1
        return [[0.0]]


def test_rankings_at_the_same_time_take_turns_by_batch():
    slow = Slow()
    backend, barrier = WorkerThread(slow, 1), threading.Barrier(3)

    def rank(number):
        barrier.wait()
        for _ in range(6):
            backend.window_logits([Window((number,), (0,), 0)])

    callers = [threading.Thread(target=rank, args=(number,)) for number in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert slow.most == 1
    assert all(len(set(slow.order[start : start + 3])) == 3 for start in range(3, 15, 3))


def test_an_error_reaches_its_caller_and_the_next_call_works():
    class Full:
        def window_logits(self, batch):
            if len(batch) > 1:
                raise OutOfMemoryError("full")
            return [[1.0]]

    backend, window = WorkerThread(Full(), 1), Window((1,), (0,), 0)

    with pytest.raises(OutOfMemoryError, match="full"):
        backend.window_logits([window, window])
    assert backend.window_logits([window]) == [[1.0]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_ranks_with_the_number_too_and_both_end():
    code = """
import os, sys, torch
from gliclass_rerank import Reranker
reranker = Reranker(device="cpu", backend="torch", threads=2)
expected = reranker.rank("chain", ["oil the chain", "a tyre"])
child = os.fork()
if child == 0:
    os._exit(0 if reranker.rank("chain", ["oil the chain", "a tyre"]) == expected else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=300)
