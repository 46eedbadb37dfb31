"""Ranks with little memory to spare: python starved_process.py BACKEND DTYPE SEED TRIES.

With the bundled model, because a tiny one needs too little. Prints a line
for every try: what came of the large ranking, and whether a small one after it is as before.
"""

import logging
import random
import resource
import sys
from pathlib import Path

import torch

from gliclass_rerank import GLiClassRerankError, Reranker

SMALL = ["oil the chain", "rust on the rim", "a saddle"]


TOLERANCES = {"float32": 1e-3, "int8": 0.05}


class Halvings(logging.Handler):
    """Counts the batches that were too large; nothing is printed."""

    def __init__(self):
        super().__init__()
        self.count = 0
        logging.getLogger("gliclass_rerank").addHandler(self)
        logging.getLogger("gliclass_rerank").propagate = False

    def emit(self, record):
        self.count += record.getMessage().startswith("out of memory")


def mebibytes_in_use():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() / 2**20


def main():
    backend, dtype, seed, tries = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    halvings = Halvings()
    chance = random.Random(seed)
    reranker = Reranker(device="cpu", backend=backend, dtype=dtype, batch_tokens=200_000, threads=1)
    other = ["a saddle that is too low " * chance.randint(1, 3) for _ in range(6)]

    def logits(texts):
        return [(hit.index, hit.logit) for hit in reranker.rank("chain", texts)]

    expected = {name: logits(texts) for name, texts in (("small", SMALL), ("other", other))}
    for turn in range(tries):
        # Larger each time: memory that was used once is at hand.
        length = 5 + 35 * (turn + 1) // tries
        large = ["a chain slips when it is worn " * chance.randint(5, length) for _ in range(100)]
        spare = int((mebibytes_in_use() + chance.choice([5, 20, 40, 60, 100, 150]) * chance.uniform(0.7, 1.3)) * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (spare, resource.RLIM_INFINITY))
        halvings.count = 0
        found = []
        try:
            found = logits(large)
            outcome = "answered in parts" if halvings.count else "answered"
        except GLiClassRerankError as error:
            outcome = f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            outcome = f"foreign {type(error).__name__} {error!s:.200}".replace("\n", " ")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        # Smaller batches add up in another order; scores of another call are nowhere near.
        if found and max(abs(dict(found)[index] - logit) for index, logit in logits(large)) > TOLERANCES[dtype]:
            outcome = "foreign: other scores"
        for name, texts in (("small", SMALL), ("other", other)):
            if logits(texts) != expected[name]:
                outcome = f"foreign: other scores after {outcome}"
        sys.stdout.write(outcome + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
