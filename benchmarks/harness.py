"""Timing shared by the benchmark scripts: interleaved repeats, medians, one JSON line at the end."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

import gliclass_rerank


def interleaved_medians(runs: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 1) -> dict[str, float]:
    """Time several functions in turn, so that a slow phase of the machine hits all of them.

    Args:
        runs: What to time, by name.
        repeats: Timed rounds.
        warmup: Rounds before the clock starts.

    Returns:
        Median seconds by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(warmup + repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def environment() -> dict[str, Any]:
    """What a reader needs to judge a figure: versions, commit, threads, processor."""
    return {
        "gliclass_rerank": gliclass_rerank.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }


def commit() -> str | None:
    """The commit that the benchmarks are run from, `-dirty` if files differ from it; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def print_json(result: Mapping[str, Any]) -> None:
    """Print a result as the last line of a script."""
    print(json.dumps({"environment": environment(), **result}))
