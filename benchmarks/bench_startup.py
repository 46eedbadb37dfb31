"""Question: how long until the first ranking of a cold process, and how much memory does it hold then?

Regime: imports and page cache, on one thread; everything in fresh processes, which take turns. Processor seconds stand
beside wall seconds, because on a shared machine the latter say more about the neighbours. Exports are in the cache: an
unmeasured round comes first.

Ceiling: `import torch` alone, which has a row of its own.

    python benchmarks/bench_startup.py [--repeats N] [--backends NAME[:DTYPE] ...]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
from typing import Any

from harness import print_json

BACKENDS = ("torch:float32", "onnx:float32", "onnx:int8", "openvino:float32", "openvino:bfloat16", "openvino:int8")
NEEDS = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
IMPORTS = {"python alone": "pass", "import gliclass_rerank": "import gliclass_rerank", "import torch": "import torch"}
RANK = """
from gliclass_rerank import Reranker
reranker = Reranker(device="cpu", backend={backend!r}, dtype={dtype!r})
reranker.rank("why does a chain slip?", ["Oil the chain.", "A chain slips when it is worn.", "Brakes squeal."])
"""
# Processor and memory are asked of the process itself, at its end.
MEASURED = """
import resource, sys
from time import perf_counter
start = perf_counter()
{code}
wall = perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
try:
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * resource.getpagesize()
except FileNotFoundError:
    resident = 0
print(wall, used.ru_utime + used.ru_stime, resident / 2**20)
"""


def measure(codes: dict[str, str], repeats: int) -> list[dict[str, Any]]:
    """Run each code in processes of its own, in turns.

    Args:
        codes: Python statements by name.
        repeats: Measured processes for each.

    Returns:
        A row for each: medians of seconds, processor seconds and resident MiB.
    """
    figures: dict[str, list[list[float]]] = {name: [] for name in codes}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for repeat in range(repeats + 1):
        for name, code in codes.items():
            command = [sys.executable, "-c", MEASURED.format(code=code)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            if repeat:
                figures[name].append([float(figure) for figure in done.stdout.split()])
    rows = []
    for name, found in figures.items():
        wall, processor, resident = (statistics.median(column) for column in zip(*found, strict=True))
        rows.append({"what": name, "seconds": wall, "processor_s": processor, "resident_mib": resident})
    return rows


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    arguments = parser.parse_args()
    codes = dict(IMPORTS)
    for name in arguments.backends:
        backend, _, dtype = name.partition(":")
        if importlib.util.find_spec(NEEDS[backend]):
            codes[f"first ranking, {name}"] = RANK.format(backend=backend, dtype=dtype or None)
    rows = measure(codes, arguments.repeats)
    print("                                  seconds  processor s  resident MiB")
    for row in rows:
        print(f"{row['what']:32}  {row['seconds']:7.2f}  {row['processor_s']:11.2f}  {row['resident_mib']:12.0f}")
    print_json({"benchmark": "startup", "repeats": arguments.repeats, "rows": rows})


if __name__ == "__main__":
    main()
