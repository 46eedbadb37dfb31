"""Passages of a file: what the command line ranks, and what a collection's corpus holds.

A passage's text is its title, a space and its text, as users of cross-encoders join them; without a title it
is the text alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import GZIP_SUFFIX, Record, read_jsonl, read_lines


@dataclass(frozen=True)
class Passage:
    """A passage and where it came from.

    Attributes:
        line: Line of the file, from 1.
        text: What is ranked.
    """

    line: int
    text: str


def passage_text(record: Record) -> str:
    """Join a record's `title` (if it has one) and `text`.

    Args:
        record: A line of a corpus or of a passage file.

    Returns:
        The text to rank. Empty if the record's is.

    Raises:
        DataError: A field is not a string, or there is no `text`.
    """
    title, text = record.string("title", default=""), record.string("text")
    return f"{title} {text}".strip() if title else text


def load_passages(path: Path) -> tuple[Passage, ...]:
    """Read the passages of a file.

    Args:
        path: `.txt` with one passage per line, or `.jsonl` with a `text` (and perhaps a `title`) per line;
            either may be gzipped (`.gz`).

    Returns:
        The passages in file order; blank lines are skipped.

    Raises:
        DataError: Another kind of file, a file that cannot be read, or a malformed line.
    """
    suffix = Path(path.name.removesuffix(GZIP_SUFFIX)).suffix
    if suffix == ".txt":
        return tuple(Passage(line, text.strip()) for line, text in read_lines(path))
    if suffix == ".jsonl":
        return tuple(Passage(record.line, passage_text(record)) for record in read_jsonl(path))
    raise DataError(f"{named(path)}: the name of a passage file must end in .jsonl or .txt, perhaps with .gz")
