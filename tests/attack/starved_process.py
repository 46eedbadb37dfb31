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


def mebibytes_in_use():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() / 2**20


def main():
    backend, dtype, seed, tries = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    logging.disable()
    chance = random.Random(seed)
    reranker = Reranker(device="cpu", backend=backend, dtype=dtype, batch_tokens=200_000, threads=1)
    large = ["a chain slips when it is worn " * chance.randint(5, 40) for _ in range(100)]
    other = ["a saddle that is too low " * chance.randint(1, 3) for _ in range(6)]

    def logits(texts):
        return [(hit.index, hit.logit) for hit in reranker.rank("chain", texts)]

    expected = {name: logits(texts) for name, texts in (("small", SMALL), ("other", other))}
    all_of_large = logits(large)
    for _ in range(tries):
        spare = int((mebibytes_in_use() + chance.choice([5, 20, 40, 60, 100, 150]) * chance.uniform(0.7, 1.3)) * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (spare, resource.RLIM_INFINITY))
        try:
            found = logits(large)
            outcome = "answered"
            # Smaller batches add up in another order; scores of another call are nowhere near.
            if max(abs(dict(found)[index] - logit) for index, logit in all_of_large) > TOLERANCES[dtype]:
                outcome = "foreign: other scores"
        except GLiClassRerankError as error:
            outcome = f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            outcome = f"foreign {type(error).__name__} {error!s:.200}".replace("\n", " ")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for name, texts in (("small", SMALL), ("other", other)):
            if logits(texts) != expected[name]:
                outcome = f"foreign: other scores after {outcome}"
        sys.stdout.write(outcome + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
