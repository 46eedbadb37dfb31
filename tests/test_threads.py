"""One instance, sixteen threads: the results are exactly those of one thread."""

import threading

import pytest
import torch

from gliclass_rerank import Reranker

NUM_THREADS = 16
PASSAGES = [
    "oil the chain",
    "clean the rim",
    "",
    "pump the tyre to four bar",
    "true the wheel",
    "a spoke is loose",
    "wax lasts longer in dry weather",
]
# Every call differs from the one before in query, passages and number, so that leaked state would show.
CALLS = [
    (f"{query} {number % 3}", [PASSAGES[(number + step) % 7] for step in range(1 + number % 3)])
    for number, query in enumerate(["chain", "brake squeal", "flat tyre", "wheel", "oil"] * 10)
]


def run_in_threads(reranker, calls):
    """Each thread starts at another call; results by (thread, call)."""
    barrier, found, errors = threading.Barrier(NUM_THREADS), {}, []

    def work(thread):
        try:
            barrier.wait()
            for step in range(len(calls)):
                call = (step + 3 * thread) % len(calls)
                found[thread, call] = reranker.rank(*calls[call])
        except Exception as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return found


@pytest.mark.parametrize("num_calls", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_the_bundled_model_gives_sixteen_threads_the_results_of_one(bundled, num_calls):
    calls = CALLS[:num_calls]
    expected = [bundled.rank(*call) for call in calls]

    found = run_in_threads(bundled, calls)

    assert len(found) == NUM_THREADS * num_calls
    assert all(ranking == expected[call] for (_, call), ranking in found.items())


def test_torchs_own_threads_do_not_change_that(bundled):
    torch.set_num_threads(2)
    expected = [bundled.rank(*call) for call in CALLS[:2]]

    found = run_in_threads(bundled, CALLS[:2])

    assert all(ranking == expected[call] for (_, call), ranking in found.items())


@pytest.mark.parametrize("plan", ["joint", "shared_query"])
def test_every_backbone_and_plan_gives_sixteen_threads_the_results_of_one(tiny_folder, plan):
    reranker = Reranker(tiny_folder, device="cpu", plan=plan)
    calls = CALLS[:7]
    expected = [reranker.rank(*call) for call in calls]

    found = run_in_threads(reranker, calls)

    assert len(found) == NUM_THREADS * len(calls)
    assert all(ranking == expected[call] for (_, call), ranking in found.items())


@pytest.mark.parametrize("threads", [1, 3])
def test_an_instance_with_threads_of_its_own_gives_sixteen_callers_the_results_of_one(tiny_folders, threads):
    reranker = Reranker(tiny_folders["bert"], device="cpu", threads=threads)
    calls = CALLS[:7]
    expected = [reranker.rank(*call) for call in calls]
    others = [Reranker(tiny_folders["bert"], device="cpu").rank(*call) for call in calls]

    found = run_in_threads(reranker, calls)

    assert all(ranking == expected[call] for (_, call), ranking in found.items())
    assert reranker.settings["threads"] == threads
    # Another number of threads may add up in another order.
    for ranking, other in zip(expected, others, strict=True):
        by_index = [{hit.index: hit.logit for hit in each} for each in (ranking, other)]
        assert by_index[0] == pytest.approx(by_index[1], abs=1e-5)
