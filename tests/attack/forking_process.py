"""A process that forks while another of its threads ranks, and whose child ranks too: it ends with 0 if all went well.

python forking_process.py WAY MODEL THREADS_OF_TORCH [SETTINGS AS JSON]
"""

import json
import multiprocessing
import os
import sys
import threading
import time

import torch

from gliclass_rerank import BackendError, Reranker

PASSAGES = [
    f"passage {number} " + "oil the chain and wax it in dry weather " * (1 + number % 9) for number in range(30)
]
_forked = threading.Event()


def is_same(reranker, expected):
    found = {hit.index: hit.logit for hit in reranker.rank("chain", PASSAGES)}
    # Where the backend was chosen automatically, a child may have another.
    bound = 1.0 if reranker.settings.get("backend") == "auto" else 1e-5
    return all(abs(found[hit.index] - hit.logit) < bound for hit in expected)


def code_of(check):
    """Exit code of a check: 0 for true, 1 for false, 2 if openvino is refused after a fork."""
    try:
        return 0 if check() else 1
    except BackendError as error:
        return 2 if "load it after the fork" in str(error) else 1


def in_child(code):
    """Exit code of a forked process, which ends as processes do with the code that a function gives."""
    child = os.fork()
    if not child:
        sys.exit(code())
    _forked.set()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_fork(reranker, expected):
    return in_child(lambda: code_of(lambda: is_same(reranker, expected)))


def in_another_thread(reranker, expected):
    def code():
        found = []
        thread = threading.Thread(target=lambda: found.append(code_of(lambda: is_same(reranker, expected))))
        thread.start()
        thread.join()
        return found[0]

    return in_child(code)


def in_grandchild(reranker, expected):
    return in_child(lambda: code_of(lambda: is_same(reranker, expected) and by_fork(reranker, expected) == 0))


def loaded_by_child(reranker, expected):
    return in_child(lambda: code_of(lambda: is_same(Reranker(**reranker.settings), expected)))


def by_multiprocessing(reranker, expected):
    process = multiprocessing.get_context("fork").Process(
        target=lambda: sys.exit(code_of(lambda: is_same(reranker, expected)))
    )
    process.start()
    _forked.set()
    process.join()
    return process.exitcode


def main():
    way, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    settings = json.loads(sys.argv[4] if len(sys.argv) > 4 else "{}")
    torch.set_num_threads(threads)
    reranker = Reranker(model, device="cpu", **{"backend": "torch", **settings})
    expected = reranker.rank("chain", PASSAGES)

    def rank():
        while not _forked.is_set():
            reranker.rank("chain", PASSAGES)

    other = threading.Thread(target=rank)
    other.start()
    time.sleep(0.2)
    code = globals()[way](reranker, expected)
    other.join()
    refused = settings.get("backend") == "openvino"
    sys.exit(0 if code == 2 * refused and is_same(reranker, expected) else f"the child ended with {code}")


if __name__ == "__main__":
    main()
