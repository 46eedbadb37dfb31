"""Passages of a file or corpus.

A passage's text is its title, a space and its text, as is usual for cross-encoders, or the text alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import GZIP_SUFFIX, Record, is_stream, parsed_record, read_lines


@dataclass(frozen=True)
class Passage:
    """Passage and its origin.

    Attributes:
        line: Line of the file, from 1.
        text: Text to rank.
        fields: JSON object of the line; empty for a line of text.
    """

    line: int
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)  # JSON


def passage_text(record: Record) -> str:
    """Join a record's `title`, if any, and `text`; a `DataError` if `text` is absent or a field is not a string."""
    title, text = record.string("title", default=""), record.string("text")
    return f"{title} {text}".strip() if title else text


def with_fields(ours: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:  # JSON
    """Join a result, which has the text, with the other fields of its record; ours rename theirs to `input_NAME`."""
    rest = {name: value for name, value in record.items() if name != "text"}
    return {**ours, **{f"input_{name}" if name in ours else name: value for name, value in rest.items()}}


def load_passages(path: Path) -> tuple[Passage, ...]:
    """Read the passages of a file; see `read_passages`."""
    return tuple(read_passages(path))


def read_passages(path: Path, text_of: Callable[[Record], str] = passage_text) -> Iterator[Passage]:
    """Read passages, or other texts, line by line.

    Args:
        path: `.txt` with one text per line, or `.jsonl` with objects; may be gzipped (`.gz`). Standard input (`-`)
            holds objects if its first line begins with `{`.
        text_of: Text of an object: its `title`, if any, and `text`.

    Yields:
        The texts in file order; blank lines are skipped.

    Raises:
        DataError: The file is of another kind, unreadable or malformed.
    """
    suffix = Path(path.name.removesuffix(GZIP_SUFFIX)).suffix
    if not is_stream(path) and suffix not in {".txt", ".jsonl"}:
        raise DataError(
            f"{named(path)}: the name of a file of texts must end in .jsonl or .txt, perhaps with .gz, or be -"
        )
    holds_objects = None if is_stream(path) else suffix == ".jsonl"
    for line, text in read_lines(path):
        if holds_objects is None:
            holds_objects = text.lstrip().startswith("{")
        if holds_objects:
            record = parsed_record(text, path, line)
            yield Passage(line, text_of(record), record.fields)
        else:
            yield Passage(line, text.strip())
