"""Leakage check: texts of evaluation sets, excluded from all lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gliclass_rerank.examples.text_identity import text_digest
from gliclass_rerank.learn.evaluation.files import read_jsonl


def forbidden_digests(data: Path) -> frozenset[bytes]:
    """`text_digest` of every query, passage (with and without title) and text in `rerank/eval/` and `classify/eval/`.

    Either folder may be missing; a malformed file is a `DataError`.
    """
    return frozenset(text_digest(text) for text in _texts(data) if text.strip())


def _texts(data: Path) -> Iterator[str]:
    for part in ("rerank", "classify"):
        for path in sorted((data / part / "eval").glob("*/*.jsonl*")):
            if path.name.startswith(("candidates", "bm25")):
                continue
            for record in read_jsonl(path):
                text, title = record.string("text", ""), record.string("title", "")
                yield text
                if title:
                    yield f"{title} {text}"
