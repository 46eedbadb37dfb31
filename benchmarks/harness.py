"""Timing shared by the benchmark scripts: competitors take turns, medians, memory, one JSON line at the end."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

import gliclass_rerank

Item = TypeVar("Item")
Result = TypeVar("Result")

PEERS = ("sentence-transformers", "gliclass", "onnxruntime", "openvino", "nncf")


def take_turns(
    runs: Mapping[str, Callable[[Item], Result]], items: Iterable[Item], *, warmup: int = 0
) -> dict[str, list[tuple[float, Result]]]:
    """Time several functions in turn on each item, so that a slow phase of the machine hits all of them.

    Args:
        runs: What to time, by name.
        items: Its arguments, one a round.
        warmup: How many of the first rounds are not kept.

    Returns:
        By name, for each round that is kept, seconds and what was returned.
    """
    kept: dict[str, list[tuple[float, Result]]] = {name: [] for name in runs}
    for number, item in enumerate(items):
        for name, run in runs.items():
            start = time.perf_counter()
            result = run(item)
            seconds = time.perf_counter() - start
            if number >= warmup:
                kept[name].append((seconds, result))
    return kept


def interleaved_medians(runs: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 1) -> dict[str, float]:
    """Time functions without arguments in turn.

    Args:
        runs: What to time, by name.
        repeats: Timed rounds.
        warmup: Rounds before the clock starts.

    Returns:
        Median seconds by name.
    """
    calls = {name: lambda _, run=run: run() for name, run in runs.items()}
    timed = take_turns(calls, range(warmup + repeats), warmup=warmup)
    return {name: statistics.median(seconds for seconds, _ in rounds) for name, rounds in timed.items()}


def peak_resident_bytes() -> int:
    """The most memory that this process has had so far; on Linux only."""
    # Not getrusage: its figure begins with what the parent had when it started this process.
    return _status_bytes("VmHWM")


def resident_bytes() -> int:
    """The memory that this process has now; on Linux only."""
    return _status_bytes("VmRSS")


def _status_bytes(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def cpu_seconds() -> float:
    """Processor time of this process and those it has started, as far as they run; on Linux only."""
    tasks = Path("/proc/self/task").iterdir()
    pids = {pid for task in tasks for pid in (task / "children").read_text(encoding="utf-8").split()}
    ticks = 0
    for pid in ("self", *pids):
        # The name in brackets may hold blanks.
        fields = Path("/proc", pid, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def environment() -> dict[str, Any]:
    """What a reader needs to judge a figure: versions, commit, threads, processor."""
    return {
        "gliclass_rerank": gliclass_rerank.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peers": {name: _version(name) for name in PEERS},
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


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def print_json(result: Mapping[str, Any]) -> None:
    """Print a result as the last line of a script."""
    print(json.dumps({"environment": environment(), **result}))
