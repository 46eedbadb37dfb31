"""Generated collections: every passage is about one topic, and a query asks for one passage by its rare word."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tiny_checkpoints import WORDS

from gliclass_rerank.learn.data.records import RankingRecord


def write_jsonl(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_collection(folder: Path, *, num_passages: int = 60, num_queries: int = 40, seed: int = 3) -> Path:
    """A collection: passage `d<n>` holds the word `rare<n>`, query `q<n>` asks for it with three common words."""
    rng = random.Random(seed)
    folder.mkdir()
    corpus = [
        {"id": f"d{n}", "title": f"rare{n}", "text": " ".join(rng.choices(WORDS, k=12))} for n in range(num_passages)
    ]
    queries = [{"id": f"q{n}", "text": f"rare{n} " + " ".join(rng.sample(WORDS, 3))} for n in range(num_queries)]
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "queries.jsonl", queries)
    (folder / "qrels.train.tsv").write_text("".join(f"q{n}\td{n}\t1\n" for n in range(num_queries)))
    return folder


def write_records(path: Path, *, num_records: int = 100, seed: int = 5) -> Path:
    """Records with up to five passages each, some judged, one without any passage."""
    rng = random.Random(seed)
    lines = []
    for number in range(num_records):
        count = 0 if number == 7 else rng.randint(1, 5)
        record = RankingRecord(
            query=" ".join(rng.choices(WORDS, k=4)),
            passages=tuple(" ".join(rng.choices(WORDS, k=rng.randint(1, 20))) for _ in range(count)),
            grades=tuple(rng.choice([None, 0, 1, 2]) for _ in range(count)),
            query_id=f"made/{number}",
        )
        lines.append(record.to_line() + "\n")
    path.write_text("".join(lines))
    return path


def kill_after_lines(script: str, arguments, path: Path, num_lines: int) -> None:
    """Run a Python script and kill it (SIGKILL) as soon as a file has so many lines."""
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)])
    try:
        deadline = time.monotonic() + 30
        while not (path.exists() and path.read_bytes().count(b"\n") >= num_lines):
            assert process.poll() is None, "the script ended before it could be killed"
            assert time.monotonic() < deadline, "the script wrote nothing"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
