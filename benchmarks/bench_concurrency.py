"""Question: do rankings at the same time get in each other's way, and would running them as one batch pay?

Regime: compute-bound on a CPU; the same queries one after another, by several threads that call `rank`, by as many
`arank` calls at once as there are queries, and by one `rank_many`, whose windows share forward passes: no gathering of
concurrent calls can do better than that. The ways take turns. Processor seconds stand beside wall seconds, because on a
shared machine the latter say more about the neighbours.

    python benchmarks/bench_concurrency.py [--model NAME] [--plan PLAN] [--threads N] [--passages N] [--words N]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from harness import print_json
from networks import write_checkpoint

from gliclass_rerank import Reranker
from gliclass_rerank.checkpoint.loading import load_checkpoint

QUERIES = 16
WORDS = [
    "chain",
    "oil",
    "brake",
    "wheel",
    "saddle",
    "rim",
    "tyre",
    "spoke",
    "pump",
    "rain",
    "hill",
    "bike",
    "squeal",
    "noise",
    "lever",
    "cable",
]

Jobs = list[tuple[str, list[str]]]


def make_jobs(num_passages: int, num_words: int) -> Jobs:
    """Queries with passages of log-normal lengths."""
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=max(3, round(num_words * rng.lognormvariate(0, 0.5)))))

    return [(f"why does the chain slip {number}", [text() for _ in range(num_passages)]) for number in range(QUERIES)]


def ways(reranker: Reranker, jobs: Jobs) -> dict[str, Callable[[], object]]:
    """What is compared, by name."""

    def by_threads(count: int) -> None:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda job: reranker.rank(*job), jobs))

    async def gathered() -> None:
        await asyncio.gather(*(reranker.arank(*job) for job in jobs))

    return {
        "in sequence": lambda: [reranker.rank(*job) for job in jobs],
        "2 threads": lambda: by_threads(2),
        "4 threads": lambda: by_threads(4),
        "16 threads": lambda: by_threads(16),
        "16 arank": lambda: asyncio.run(gathered()),
        "rank_many": lambda: reranker.rank_many(*map(list, zip(*jobs, strict=True))),
    }


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="the bundled one; with `--plan joint`, a random one of its size")
    parser.add_argument("--plan")
    parser.add_argument("--threads", type=int, help="torch's number")
    parser.add_argument("--own-threads", type=int, help="the instance's number")
    parser.add_argument("--passages", type=int, default=10)
    parser.add_argument("--words", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with TemporaryDirectory() as folder:
        if arguments.plan == "joint" and arguments.model is None:
            arguments.model = f"{folder}/random"
            write_checkpoint(Path(arguments.model), load_checkpoint(None))
        reranker = Reranker(
            arguments.model, backend="torch", device="cpu", plan=arguments.plan, threads=arguments.own_threads
        )
    runs = ways(reranker, make_jobs(arguments.passages, arguments.words))
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(arguments.repeats + 1):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            if repeat:
                figures[name].append((time.perf_counter() - wall, time.process_time() - processor))
    rows = []
    for name, found in figures.items():
        wall, processor = (statistics.median(column) for column in zip(*found, strict=True))
        rows.append({"way": name, "seconds": wall, "processor_s": processor})
    print(f"{QUERIES} queries, {arguments.passages} passages of about {arguments.words} words, plan {reranker.plan}")
    print("                seconds  processor s")
    for row in rows:
        print(f"{row['way']:14}  {row['seconds']:7.2f}  {row['processor_s']:11.2f}")
    print_json({"benchmark": "concurrency", **vars(arguments), "plan": reranker.plan, "rows": rows})


if __name__ == "__main__":
    main()
