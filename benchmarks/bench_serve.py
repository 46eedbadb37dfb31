"""Question: what does the server cost beside the library, and how does it behave under load?

Regime: compute-bound on a CPU. Callers on loopback, each with one request at a time, passages of about 20 words, no two
requests alike, the cache off. Each cell runs for a fixed time between two runs of `rank_many` over the same kind of
requests in this process, while the server idles: its passages/s are quoted as a share of theirs, by the clock and by
processor time, which says more on a busy machine. The ceiling by processor time is 100 %; by the clock batches that
overlap tokenising and computing may gain. `OMP_WAIT_POLICY=passive` keeps torch's idle threads, which spin for other
backends' time in a thread that has called torch before, out of the comparison.

    python benchmarks/bench_serve.py [--model NAME] [--callers 1 8 64 256] [--passages 20 100] [--seconds 15] \
        [--workers N --threads N] [--soak REQUESTS] [--peer URL --peer-pid PID]

`--peer` measures another server with Cohere's shape at that address too, such as `infinity_emb`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from harness import print_json

from gliclass_rerank import Reranker

WORDS = "chain oil brake wheel saddle rim tyre spoke pump rain hill bike squeal noise lever".split()  # noqa: SIM905
LIBRARY_SECONDS, LIBRARY_PASSAGES = 4.0, 160
WARM_UP = 3

Request = tuple[str, list[str]]


class Cell(NamedTuple):
    """Measured answers of one server under one load."""

    seconds: float
    processor_s: float
    latencies: list[float]
    refused: int
    failed: int


def requests(num_passages: int, seed: int) -> Iterator[Request]:
    """Endless requests, all different."""
    rng = random.Random(seed)
    while True:
        passages = [" ".join(rng.choices(WORDS, k=rng.randint(10, 30))) for _ in range(num_passages)]
        yield f"why does the chain slip {rng.random()}", passages


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> int:
    """Send a request over an open connection; status of the answer."""
    body = json.dumps({"model": "m", "query": request[0], "documents": request[1]}).encode()
    head = (
        f"POST /rerank HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    header = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    (length,) = re.findall(r"content-length: (\d+)", header)
    await reader.readexactly(int(length))
    return int(header.split(" ", 2)[1])


async def load(url: str, pid: int, callers: int, num_passages: int, seconds: float, seed: int) -> Cell:
    """Keep a server busy until the clock runs out; what counts ends with the last answer."""
    address, source, latencies, others = urlsplit(url), requests(num_passages, seed), list[float](), list[int]()
    start, processor = time.perf_counter(), processor_seconds(pid)
    taken = 0.0, 0.0

    def stop() -> None:
        nonlocal taken
        taken = time.perf_counter() - start, processor_seconds(pid) - processor

    async def call() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            while True:
                began = time.perf_counter()
                status = await post(reader, writer, next(source))
                if status == 200:
                    latencies.append(time.perf_counter() - began)
                    stop()
                else:
                    others.append(status)
                    await asyncio.sleep(0.1)
        finally:
            writer.close()

    tasks = [asyncio.create_task(call()) for _ in range(callers)]
    ended, _ = await asyncio.wait(tasks, timeout=seconds)
    failed = sum(task.exception() is not None for task in ended)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    refused = others.count(429)
    return Cell(*taken, latencies, refused, failed + len(others) - refused)


def processor_seconds(pid: int) -> float:
    """Processor time of a process and its workers so far."""
    ticks = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split())]


def library_speed(reranker: Reranker, num_passages: int, seed: int) -> tuple[float, float]:
    """Passages of `rank_many` a second and a processor second, several requests a call."""
    source, together, passages = requests(num_passages, seed), max(1, LIBRARY_PASSAGES // num_passages), 0
    start, processor = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < LIBRARY_SECONDS:
        queries, lists = zip(*(next(source) for _ in range(together)), strict=True)
        reranker.rank_many(queries, lists)
        passages += together * num_passages
    return passages / (time.perf_counter() - start), passages / (time.process_time() - processor)


def overhead_ms(reranker: Reranker, url: str, num_passages: int, rounds: int) -> tuple[float, float]:
    """Median milliseconds of `rank` and of a request, in turns."""
    source = requests(num_passages, 7)
    library, served = [], []

    async def in_turns() -> None:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for number in range(rounds + WARM_UP):
            request = next(source)
            times = [time.perf_counter()]
            reranker.rank(*request)
            times.append(time.perf_counter())
            await post(reader, writer, request)
            times.append(time.perf_counter())
            if number >= WARM_UP:
                library.append(times[1] - times[0])
                served.append(times[2] - times[1])
        writer.close()

    asyncio.run(in_turns())
    return 1000 * statistics.median(library), 1000 * statistics.median(served)


@contextmanager
def serving(model: str, more: Sequence[str]) -> Iterator[tuple[str, int]]:
    """A server in a process of its own; its address and process id."""
    code = "import sys; from gliclass_rerank.cli.app import main; sys.exit(main())"
    options = ["--model", model, "--device", "cpu", "--port", "0", "--cache-bytes", "0", *more]
    process = subprocess.Popen([sys.executable, "-c", code, "serve", *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"ready on (http://[\d.:]+)", line):
                break
        else:
            raise SystemExit("the server did not start")
        # Its log would fill the pipe.
        with subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL):
            yield found[1], process.pid
            process.terminate()
    finally:
        process.terminate()
        process.wait()


def resident_mib(pid: int) -> float:
    """Memory of a process and its workers."""
    texts = [Path(f"/proc/{member}/status").read_text(encoding="utf-8") for member in family(pid)]
    return sum(int(found[1]) for text in texts if (found := re.search(r"VmRSS:\s+(\d+) kB", text))) / 1024


def soak(url: str, pid: int, count: int) -> list[dict[str, float]]:
    """Memory after each tenth of many small requests by eight callers."""

    async def tenth(seed: int) -> None:
        address, source = urlsplit(url), requests(1, seed)

        async def call() -> None:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            for _ in range(count // 80):
                await post(reader, writer, next(source))
            writer.close()

        await asyncio.gather(*(call() for _ in range(8)))

    rows = []
    for part in range(10):
        asyncio.run(tenth(part))
        rows.append({"requests": (part + 1) * (count // 80) * 8, "resident_mib": resident_mib(pid)})
    return rows


def percentile(values: Sequence[float], share: float) -> float | None:
    """Value below which a share of the others is, in milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


def row_of(
    cell: Cell, server: str, callers: int, num_passages: int, library: Sequence[tuple[float, float]]
) -> dict[str, object]:
    """Row of the table."""
    passages = len(cell.latencies) * num_passages
    clock, processor = (statistics.mean(column) for column in zip(*library, strict=True))
    return {
        "server": server,
        "callers": callers,
        "passages": num_passages,
        "answers": len(cell.latencies),
        "refused": cell.refused,
        "failed": cell.failed,
        "passages_per_s": passages / cell.seconds if passages else 0.0,
        "share_of_rank_many": passages / cell.seconds / clock if passages else 0.0,
        "processor_share": passages / cell.processor_s / processor if cell.processor_s else None,
        **{f"p{round(100 * share)}_ms": percentile(cell.latencies, share) for share in (0.5, 0.95, 0.99)},
    }


def print_rows(rows: Sequence[dict[str, object]]) -> None:
    """The table."""
    columns: dict[str, Callable[[object], str]] = {
        "server": str,
        "callers": str,
        "passages": str,
        "answers": str,
        "refused": str,
        "failed": str,
        "passages_per_s": lambda value: f"{value:.0f}",
        "share_of_rank_many": lambda value: f"{value:.0%}",
        "processor_share": lambda value: "-" if value is None else f"{value:.0%}",
        **dict.fromkeys(("p50_ms", "p95_ms", "p99_ms"), lambda value: "-" if value is None else f"{value:.0f}"),
    }
    print("  ".join(columns))
    for row in rows:
        print("  ".join(form(row[name]).rjust(len(name)) for name, form in columns.items()))


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="minilm-l6-v1")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--passages", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=40, help="requests of the overhead's median")
    parser.add_argument("--soak", type=int, default=0, help="requests over which memory is watched")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the server")
    parser.add_argument("--threads", type=int, help="threads of a model, in the server alone; default: all cores")
    parser.add_argument("--peer", help="address of another server with /rerank in Cohere's shape")
    parser.add_argument("--peer-pid", type=int, default=os.getpid(), help="its process")
    arguments = parser.parse_args()
    reranker = Reranker(arguments.model, device="cpu")
    rows: list[dict[str, object]] = []
    more = ["--workers", str(arguments.workers)]
    if arguments.threads:
        more += ["--threads", str(arguments.threads)]
    with serving(arguments.model, more) as (url, pid):
        servers = {"gliclass-rerank": (url, pid)}
        if arguments.peer:
            servers["peer"] = (arguments.peer, arguments.peer_pid)
        library_ms, served_ms = overhead_ms(reranker, url, min(arguments.passages), arguments.rounds)
        print(f"one caller, {min(arguments.passages)} passages: rank {library_ms:.1f} ms, server {served_ms:.1f} ms")
        for num_passages in arguments.passages:
            before = library_speed(reranker, num_passages, 1)
            for callers in arguments.callers:
                cells = {
                    name: asyncio.run(load(*server, callers, num_passages, arguments.seconds, callers))
                    for name, server in servers.items()
                }
                after = library_speed(reranker, num_passages, 2)
                rows += [row_of(cell, name, callers, num_passages, (before, after)) for name, cell in cells.items()]
                before = after
                print(*rows[-1].values(), file=sys.stderr)
        memory = soak(url, pid, arguments.soak) if arguments.soak else []
    print_rows(rows)
    for point in memory:
        print(f"{point['requests']:7} requests  {point['resident_mib']:7.1f} MiB")
    overhead = {"rank_ms": library_ms, "served_ms": served_ms}
    load_average = os.getloadavg()[0]
    print_json(
        {"benchmark": "serve", **vars(arguments), "load": load_average, **overhead, "rows": rows, "soak": memory}
    )


if __name__ == "__main__":
    main()
