"""Queries and documents of a report, in the forms that people have them in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import Record, existing, read_lines
from gliclass_rerank.learn.evaluation.passages import Passage, passage_text, read_passages

_PROSE: Final = frozenset({".txt", ".md"})
_PARAGRAPH: Final = re.compile(r"\n\s*\n")


def read_queries(path: Path) -> dict[str, str]:
    """Read queries.

    Args:
        path: `.jsonl` with `query` or `text`, and perhaps `id`; or `.txt`, one a line.

    Returns:
        Text by id, which is the line's number if there is none.

    Raises:
        DataError: The file is unreadable or malformed, an id is there twice, or there is no query.
    """
    return _by_id(path, read_passages(path, _query_text), "queries")


def read_corpus(path: Path) -> dict[str, str]:
    """Read documents.

    Args:
        path: `.jsonl` with `text`, and perhaps `title` and `id`; `.txt`, one a line; a folder with `corpus.jsonl`; or a
            folder of `.txt` and `.md` files, at any depth, each paragraph of which is a document, `FILE#NUMBER`.

    Returns:
        Text by id, which is the line's number if there is none.

    Raises:
        DataError: A file is unreadable or malformed, an id is there twice, or there is no document.
    """
    if not path.is_dir():
        return _by_id(path, read_passages(path, passage_text), "documents")
    own = existing(path / "corpus.jsonl")
    if own is not None:
        return _by_id(own, read_passages(own, passage_text), "documents")
    found = dict(_paragraphs(path))
    if not found:
        raise DataError(f"{named(path)}: holds neither corpus.jsonl nor a .txt or .md file with text")
    return found


def _by_id(path: Path, passages: Iterable[Passage], what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for passage in passages:
        place = f"{named(path)}:{passage.line}"
        has_id = "id" in passage.fields or "_id" in passage.fields
        name = Record(place, passage.line, passage.fields).id if has_id else str(passage.line)
        if name in found:
            raise DataError(f"{place}: a second entry with the id `{named(name)}`")
        found[name] = passage.text
    if not found:
        raise DataError(f"{named(path)}: holds no {what}")
    return found


def _query_text(record: Record) -> str:
    return record.string("query" if "query" in record.fields else "text")


def _paragraphs(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix not in _PROSE or not path.is_file():
            continue
        lines = dict(read_lines(path))
        last = max(lines, default=0)
        text = "\n".join(lines.get(number, "") for number in range(1, last + 1))
        for number, paragraph in enumerate(filter(str.strip, _PARAGRAPH.split(text)), start=1):
            yield f"{path.relative_to(folder).as_posix()}#{number}", paragraph.strip()
