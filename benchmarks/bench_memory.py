"""Question: how much memory does a process hold after hundreds of rankings, and does it still grow?

Regime: a process for each contestant on Linux, which ranks the collections' queries with their first 100 candidates,
one after the other, so that nearly every batch has lengths of its own. Resident memory of the whole process, imports
included, after each fifth of the rankings. Random networks have MiniLM-L6's size, as in `bench_throughput.py`.

    python benchmarks/bench_memory.py --data FOLDER ... [--limit N] [--threads N] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from contestants import Contestant, ours
from harness import print_json, resident_bytes
from loads import Question, collection_load
from networks import write_checkpoint, write_cross_encoder
from peers import TORCH, peers

from gliclass_rerank.checkpoint.loading import load_checkpoint

PARTS = 5
DEFAULT_NAMES = (TORCH, "minilm-l6-v1", "minilm-cascade-v1")


def resident_after(contestant: Contestant, questions: Sequence[Question], threads: int) -> list[int]:
    """Load a contestant in this process and let it rank.

    Args:
        contestant: Who.
        questions: What.
        threads: CPU threads.

    Returns:
        Bytes after each fifth of the questions.
    """
    torch.set_num_threads(threads)
    runner = contestant.open()
    found = []
    for number, question in enumerate(questions, start=1):
        runner.scores(question)
        if number * PARTS // len(questions) > len(found):
            found.append(resident_bytes())
    return found


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of collections")
    parser.add_argument("--limit", type=int, default=40, help="queries of a collection at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=DEFAULT_NAMES, help="parts of names of contestants")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    questions = [each for folder in arguments.data for each in collection_load(folder, limit=arguments.limit).questions]
    passages = sum(len(question.passages) for question in questions)
    rows = []
    print(f"Resident MiB after each {passages // PARTS:,} passages, threads: {arguments.threads}\n")
    print(f"| |{' |' * PARTS}\n|---|{'---|' * PARTS}")
    with tempfile.TemporaryDirectory() as folder:
        marker, pairs = Path(folder, "marker"), Path(folder, "pairs")
        start = load_checkpoint()
        write_checkpoint(marker, start)
        write_cross_encoder(pairs, start)
        context = get_context("forkserver")
        for contestant in [*peers(pairs, None), *ours(marker)]:
            if not any(part in contestant.name for part in arguments.only):
                continue
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found = pool.submit(resident_after, contestant, questions, arguments.threads).result()
            rows.append({"name": contestant.name, "passages": passages, "resident_bytes": found})
            print(f"| {contestant.name} | {' | '.join(f'{size / 2**20:.0f}' for size in found)} |", flush=True)
    print_json({"benchmark": "memory", "rows": rows})


if __name__ == "__main__":
    main()
