"""Passages of a file or corpus.

A passage's text is its title, a space and its text, as is usual for cross-encoders, or the text alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import GZIP_SUFFIX, Record, read_jsonl, read_lines


@dataclass(frozen=True)
class Passage:
    """Passage and its origin.

    Attributes:
        line: Line of the file, from 1.
        text: Text to rank.
    """

    line: int
    text: str


def passage_text(record: Record) -> str:
    """Join a record's `title`, if any, and `text`; a `DataError` if `text` is absent or a field is not a string."""
    title, text = record.string("title", default=""), record.string("text")
    return f"{title} {text}".strip() if title else text


def load_passages(path: Path) -> tuple[Passage, ...]:
    """Read the passages of a file.

    Args:
        path: `.txt` with one passage per line, or `.jsonl` with `text` (and perhaps `title`); may be gzipped (`.gz`).

    Returns:
        The passages in file order; blank lines are skipped.

    Raises:
        DataError: The file is of another kind, unreadable or malformed.
    """
    suffix = Path(path.name.removesuffix(GZIP_SUFFIX)).suffix
    if suffix == ".txt":
        return tuple(Passage(line, text.strip()) for line, text in read_lines(path))
    if suffix == ".jsonl":
        return tuple(Passage(record.line, passage_text(record)) for record in read_jsonl(path))
    raise DataError(f"{named(path)}: the name of a passage file must end in .jsonl or .txt, perhaps with .gz")
