"""Texts that must not be in any list: those of evaluation sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gliclass_rerank.examples.text_identity import text_digest
from gliclass_rerank.learn.evaluation.files import read_jsonl


def forbidden_digests(data: Path) -> frozenset[bytes]:
    """Digests of every text of the evaluation sets: queries, passages with and without title, texts to classify.

    Args:
        data: The data folder, with `rerank/eval/` and `classify/eval/`; either may be missing.

    Returns:
        What `same_text.text_digest` says of each.

    Raises:
        DataError: A file is malformed.
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
