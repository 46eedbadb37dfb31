"""Question: does a process that ranks for days grow, in memory, open handles or threads?

Regime: a process for each backend on Linux, which ranks lists of few passages of random words, all of mixed lengths,
one list after the other, so that nearly every batch has a shape of its own. Resident memory, open handles and threads
of the whole process after a tenth, a half and all of the rankings; the first tenth is for warming up. The script fails
if memory grows by more than `--growth` from then on, or handles or threads by any.

    python benchmarks/bench_soak.py [--backends torch:float32 openvino:int8 ...] [--rankings N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import environment, print_json, resident_bytes
from loads import Texts
from networks import words
from tokenizers import Tokenizer

from gliclass_rerank import Reranker
from gliclass_rerank.checkpoint.loading import load_checkpoint

DEFAULT_BACKENDS = ("torch:float32", "torch:bfloat16", "onnx:int8", "openvino:int8")
SHARES = (0.1, 0.5, 1.0)
QUERY_TOKENS = (2, 40)
GROWTH = 0.3


@dataclass(frozen=True)
class Held:
    """What a process has at one moment.

    Attributes:
        rankings: How many it has done.
        resident_bytes: Its memory.
        handles: Its open files and the like.
        threads: Its threads.
    """

    rankings: int
    resident_bytes: int
    handles: int
    threads: int


def held(rankings: int) -> Held:
    """What this process has now; on Linux only."""
    own = Path("/proc/self")
    return Held(
        rankings, resident_bytes(), sum(1 for _ in (own / "fd").iterdir()), sum(1 for _ in (own / "task").iterdir())
    )


def lists(passages: int, rankings: int) -> Iterator[tuple[str, list[str]]]:
    """Queries with their passages, the same for every backend."""
    rng = np.random.default_rng(0)
    text = Texts(words(Tokenizer.from_str(load_checkpoint().layout.tokenizer.source)), rng)
    for _ in range(rankings):
        yield text(int(rng.integers(*QUERY_TOKENS))), text.mixed(passages)


def soak(backend: str, arguments: argparse.Namespace) -> tuple[list[Held], float]:
    """Rank in this process.

    Args:
        backend: The backend and its precision, such as `torch:float32`.
        arguments: The command's.

    Returns:
        What it has after each share of the rankings, and seconds of all rankings.
    """
    torch.set_num_threads(arguments.threads)
    runtime, _, dtype = backend.partition(":")
    reranker = Reranker(arguments.model, device="cpu", backend=runtime, dtype=dtype or None)
    marks = [max(1, round(share * arguments.rankings)) for share in SHARES]
    found, seconds = [], 0.0
    for number, (query, passages) in enumerate(lists(arguments.passages, arguments.rankings), start=1):
        start = time.perf_counter()
        reranker.rank(query, passages)
        seconds += time.perf_counter() - start
        found += [held(number)] * marks.count(number)
    return found, seconds


def faults(backend: str, found: list[Held], growth: float) -> list[str]:
    """What grew more than it may, one sentence each."""
    warm, last = found[0], found[-1]
    said = []
    if last.resident_bytes > (1 + growth) * warm.resident_bytes:
        grown = last.resident_bytes / warm.resident_bytes - 1
        said.append(f"{backend}: memory grew by {grown:.0%} after the first tenth, more than {growth:.0%}")
    for name in ("handles", "threads"):
        before, after = getattr(warm, name), getattr(last, name)
        if after > before:
            said.append(f"{backend}: {name} grew from {before} to {after}")
    return said


def main() -> int:
    """Print a table, then what grew too much, then one JSON line.

    Returns:
        Exit code: 1 if something grew too much.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=DEFAULT_BACKENDS, metavar="BACKEND:DTYPE")
    parser.add_argument("--model", default="minilm-l6-v1", help="a bundled model, or a folder")
    parser.add_argument("--rankings", type=int, default=10_000)
    parser.add_argument("--passages", type=int, default=5, help="of a ranking")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--growth", type=float, default=GROWTH, help="share by which memory may grow once warm")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []  # Any: JSON
    said = []
    print(f"Resident MiB / handles / threads after so many rankings of {arguments.passages} passages\n")
    print("| | " + " | ".join(f"{share:.0%}" for share in SHARES) + " | seconds |\n|---|" + "---|" * (len(SHARES) + 1))
    for backend in arguments.backends:
        with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
            found, seconds = pool.submit(soak, backend, arguments).result()
        cells = [f"{each.resident_bytes / 2**20:.0f} / {each.handles} / {each.threads}" for each in found]
        print(f"| {backend} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
        rows.append({"name": backend, "seconds": seconds, "held": [asdict(each) for each in found]})
        said += faults(backend, found, arguments.growth)
    for sentence in said:
        print(sentence)
    result = {
        "benchmark": "soak",
        "model": arguments.model,
        "rankings": arguments.rankings,
        "passages": arguments.passages,
        "growth": arguments.growth,
        "rows": rows,
        "faults": said,
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"environment": environment(), **result}) + "\n", encoding="utf-8")
    print_json(result)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
