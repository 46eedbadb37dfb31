"""Question: does the packed pass keep its promises on this GPU, and how quick is it?

Regime: random networks of known sizes, log-normal passages with a mean of 101 tokens. Each stage is saved as it ends,
so that a machine taken away leaves what it has shown. Launches, copies and waits are counted on the device "meta".
`--dry-run` goes through all other stages on the CPU with a tiny network; its times mean nothing.

    python benchmarks/gpu_check.py --out FILE [--dry-run] [--minutes 9] [--models ...] [--cases 1x20 ...] [--stages ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from device_counts import CASES, MODELS, counted, plans_of, shaped_config
from gpu_stages import GpuCheck, machine_stage, memory_stage, parity_stage, speed_stage, waits_stage
from gpu_text import peers_stage, text_stage
from harness import environment

from gliclass_rerank.runtime.attention import unpackable_reason

Stage = Callable[[GpuCheck], Any]
STAGES: dict[str, Stage] = {
    "machine": machine_stage,
    "parity": parity_stage,
    "waits": waits_stage,
    "speed": speed_stage,
    "text": text_stage,
    "peers": peers_stage,
    "memory": memory_stage,
}


def count_cases(models: list[str], cases: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Count every model, plan and case as a GPU with flash attention would run it."""
    found = []
    for model in models:
        for plan in plans_of(model):
            attention = "varlen" if unpackable_reason(shaped_config(model, plan)) is None else "padded"
            for queries, passages in cases:
                if attention == "padded" and queries > 1:
                    continue  # each query has passes of its own
                found.append(counted(model, plan, queries=queries, passages=passages, attention=attention))
    return found


def saved(results: dict[str, Any], out: Path) -> None:
    """Write what there is so far, whole."""
    staging = out.with_name(out.name + ".part")
    staging.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    staging.replace(out)


def run_stages(check: GpuCheck, names: list[str], results: dict[str, Any], out: Path) -> None:
    """Run stages in order, until the time is over; a stage that fails says why and stops no other."""
    for name, stage in STAGES.items():
        if name not in names:
            continue
        if time.monotonic() > check.deadline:
            results[name] = "no time left"
            continue
        start = time.monotonic()
        try:
            results[name] = stage(check)
        except Exception as error:  # noqa: BLE001 - the next stage may still say something
            results[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
        results.setdefault("seconds", {})[name] = round(time.monotonic() - start, 1)
        saved(results, out)
        print(f"{name}: {results['seconds'][name]} s", file=sys.stderr, flush=True)


def case(text: str) -> tuple[int, int]:
    """Read a case such as `64x20`: queries and passages of each."""
    queries, passages = map(int, text.split("x"))
    return queries, passages


def main() -> None:
    """Check, save, and print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--cases", nargs="+", type=case, default=list(CASES))
    parser.add_argument("--stages", nargs="*", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--tflops", type=float, default=790.0, help="measured limit of the GPU, for shares of it")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here; --dry-run goes through all stages without one")
    deadline = time.monotonic() + 60 * arguments.minutes
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    counts = count_cases(arguments.models, arguments.cases)
    results: dict[str, Any] = {"environment": environment(), "cases": counts}
    saved(results, arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        check = GpuCheck(
            is_dry=arguments.dry_run,
            models=[name for name in arguments.models if name != "DeBERTa-base"] or arguments.models,
            cases=arguments.cases,
            tflops=arguments.tflops,
            deadline=deadline,
            folder=Path(folder),
        )
        run_stages(check, arguments.stages, results, arguments.out)
    print(json.dumps({"cases": counts}))
    failed = [name for name in STAGES if "error" in str(results.get(name))[:12]]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
