"""Tables of speed, memory and scale."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from table_parts import Row, Table, rows_of, table

ONE_THREAD: Final = "2026-11-29-throughput-x86_64-avx512-bf16-1-thread.json"
TWO_THREADS: Final = "2026-11-29-throughput-x86_64-avx512-bf16-2-threads.json"
WITH_AMX: Final = "2026-11-29-throughput-x86_64-amx-1-thread.json"
LONG_LISTS: Final = "2026-11-29-throughput-x86_64-avx512-bf16-1000-passages.json"
MEMORY: Final = ("2026-11-29-memory.json", "2026-11-29-memory-openvino.json")  # the second one was run later
SOAK: Final = "2026-11-30-soak.json"
GPU_COUNTS: Final = "2026-11-30-gpu-counts.json"
SERVE: Final = "2026-12-01-serve.json"
BATCH: Final = "2026-11-30-batch.json"
# Assumed in docs/guide/scale.md: load of a core at which queues stay short, cores of a machine, and a price.
LOAD, CORES, DOLLARS = 0.6, 64, 0.04
REQUESTS_PER_S, ROWS, PASSAGES_OF_ROW = 10_000, 10**9, 100
REAL, EXAMPLES, LONG = "trec_dl19", "20x128+512", "1000xmixed"
PAIRS, PAIRS_INT8 = "CrossEncoder, torch float32", "CrossEncoder, OpenVINO int8"
RUNTIMES: Final = {
    "torch float32": "torch float32",
    "torch bfloat16": "torch bfloat16",
    "ONNX int8": "onnx int8",
    "OpenVINO bfloat16": "openvino bfloat16",
    "OpenVINO int8": "openvino int8",
}
MODELS: Final = {
    "CrossEncoder": "`CrossEncoder`, 6 layers",
    "ms-marco-MiniLM-L-12-v2": "ms-marco-MiniLM-L-12-v2",
    "minilm-l6-v1": "`minilm-l6-v1`, 6 layers",
    "minilm-cascade-v1": "**the default**, 6 layers, then 12 for the best 20",
}


def speed(results: Path) -> str:
    """Passages for each second, a row a model and a column a runtime."""
    found = {row["name"].lower(): row["passages_per_second"] for row in rows_of(results, ONE_THREAD, load=REAL)}
    lines = []
    for model, title in MODELS.items():
        values = [found.get(f"{model}, {runtime}".lower()) for runtime in RUNTIMES.values()]
        lines.append([title, *("" if value is None else f"{value:.0f}" for value in values)])
    return table(["passages/s", *RUNTIMES], lines)


def throughput(file: str, load: str) -> Table:
    """Everything that was raced with one load."""

    def made(results: Path) -> str:
        head = ["", "passages/s", "against `CrossEncoder`", "against its OpenVINO int8", "tokens", "nDCG@10"]
        return table(head, (cells(row) for row in rows_of(results, file, load=load)))

    def cells(row: Row) -> list[str]:
        figures = [
            f"{row['passages_per_second']:.1f}",
            *(f"{row['ratios'][base]:.2f}x" for base in (PAIRS, PAIRS_INT8)),
        ]
        ndcg = "" if row["ndcg_at_10"] is None else f"{row['ndcg_at_10']:.3f}"
        return [row["name"], *figures, f"{row['tokens']:,.0f}", ndcg]

    return made


def memory(results: Path) -> str:
    """Resident memory after each fifth of the passages."""
    rows = [*{row["name"]: row for file in MEMORY for row in rows_of(results, file)}.values()]
    steps = [rows[0]["passages"] * part // 5 for part in range(1, 6)]
    lines = [[row["name"], *(f"{size / 2**20:,.0f}" for size in row["resident_bytes"])] for row in rows]
    return table(["MiB after so many passages", *(f"{step:,}" for step in steps)], lines)


def soak(results: Path) -> str:
    """Resident memory, handles and threads after a tenth, a half and all of many rankings."""
    rows = rows_of(results, SOAK)
    head = ["MiB / handles / threads after so many rankings", *(f"{held['rankings']:,}" for held in rows[0]["held"])]
    lines = [
        [
            row["name"].replace(":", " "),
            *(f"{held['resident_bytes'] / 2**20:,.0f} / {held['handles']} / {held['threads']}" for held in row["held"]),
        ]
        for row in rows
    ]
    return table(head, lines)


def serve(results: Path) -> str:
    """Server under load, beside the library in the same run."""
    rows = rows_of(results, SERVE, server="gliclass-rerank")
    lines = [
        [
            str(row["callers"]),
            str(row["passages"]),
            *(f"{row[share]:.0%}" for share in ("share_of_rank_many", "processor_share")),
            *(str(row[name]) for name in ("answers", "refused", "failed")),
        ]
        for row in rows
    ]
    head = [
        "callers",
        "passages",
        "of `rank_many`, by the clock",
        "by processor time",
        "answers",
        "429",
        "other errors",
    ]
    return table(head, lines)


def thread_rates(results: Path) -> dict[str, float]:
    """Passages for each second of a thread, by bundled model."""
    found = {row["name"].lower(): row["passages_per_second"] for row in rows_of(results, ONE_THREAD, load=REAL)}
    return {model: found[f"{model}, openvino int8"] for model in ("minilm-l6-v1", "minilm-cascade-v1")}


def scale_requests(results: Path) -> str:
    """Machines for many requests for each second."""
    served = rows_of(results, SERVE, server="gliclass-rerank")
    share = min(1.0, statistics.mean(row["processor_share"] for row in served))
    lines = []
    for model, rate in thread_rates(results).items():
        for passages in (20, 100):
            each = rate * share * LOAD / passages
            cores = REQUESTS_PER_S / each
            values = f"{rate:.0f}", f"{each:.2f}", f"{cores:,.0f}", f"{cores / CORES:,.0f}", f"{cores * DOLLARS:,.0f}"
            lines.append([f"`{model}`, {passages} passages", *values])
    head = "model, request|passages/s of a thread|requests/s of a core|cores|machines|dollars an hour"
    return table(head.split("|"), lines) + (
        "\nThe requests of a core are the passages of a thread (OpenVINO int8), by the server's share of "
        f"`rank_many` ({share:.0%}),\nat a load of {LOAD:.0%}. Machines have {CORES} cores at {DOLLARS} dollars each "
        "an hour; load, size and price are assumed.\n"
    )


def scale_rows(results: Path) -> str:
    """Core hours for a very large file."""
    (job,) = rows_of(results, BATCH, format=".jsonl")
    share, passages, width = min(1.0, job["processor_share"]), ROWS * PASSAGES_OF_ROW, job["bytes_per_passage"]
    size, speed = passages * width, job["driver_bytes_per_processor_s"]
    lines = []
    for model, rate in thread_rates(results).items():
        hours = passages / (rate * share) / 3600
        fed = speed / (rate * share * width)
        values = hours, hours / 1000 / 24, hours * DOLLARS, fed
        lines.append([f"`{model}`", *(f"{value:,.0f}" for value in values)])
    head = "model|core hours|days on 1,000 cores|dollars|cores that one driver feeds"
    return table(head.split("|"), lines) + (
        f"\nThe rows hold {size / 1e12:.0f} TB of text, {width:.0f} bytes a passage. A job's share of `rank_many` "
        f"is {share:.0%}, and the\ndriver of `batch --ray` reads and stores {speed / 1e6:.0f} MB for each second of "
        "its core.\n"
    )


def gpu_counts(results: Path) -> str:
    """Forward passes, launches, copies and waits of a call on a GPU."""
    every = json.loads((results / GPU_COUNTS).read_text(encoding="utf-8"))["cases"]
    cases = [case for case in every if (case["queries"], case["passages"]) in ((1, 100), (64, 20))]
    lines = [
        [case["model"], f"`{case['plan']}`", case["attention"], f"{case['queries']} x {case['passages']}"]
        + [f"{case[name]:,}" for name in ("forwards", "launches", "copies_in", "syncs")]
        + [f"{case['tokens_computed'] / case['tokens_real']:.2f}"]
        for case in cases
    ]
    head = "network|plan|attention|queries x passages|forwards|launches|copies in|waits|tokens computed / real"
    return table(head.split("|"), lines)


TABLES: Final[Mapping[str, Table]] = {
    "speed": speed,
    "speed-one-thread": throughput(ONE_THREAD, REAL),
    "speed-two-threads": throughput(TWO_THREADS, REAL),
    "speed-with-amx": throughput(WITH_AMX, REAL),
    "speed-long-lists": throughput(LONG_LISTS, LONG),
    "speed-examples": throughput(ONE_THREAD, EXAMPLES),
    "memory": memory,
    "soak": soak,
    "gpu-counts": gpu_counts,
    "serve": serve,
    "scale-requests": scale_requests,
    "scale-rows": scale_rows,
}
