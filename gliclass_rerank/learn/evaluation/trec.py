"""Runs: for each query its passages, best first; and their file format.

TREC tools sort by score and ignore both the order of lines and the rank column, with ties in an order of
their own. So a run's scores are made from its ranks: whole numbers, exact in the single precision such tools
compute in, and no two equal within a query.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.files.atomic_write import atomic_file

Run = Mapping[str, Sequence[str]]


def scored(doc_ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Give each document of a ranking a score.

    Args:
        doc_ids: Documents, best first.

    Yields:
        Document and score: the number of documents for the first, 1 for the last.
    """
    yield from zip(doc_ids, range(len(doc_ids), 0, -1), strict=True)


def check_run_path(path: Path) -> None:
    """Refuse a path that `write_run` could not write to, before hours are spent on what it should hold.

    Args:
        path: Where the run will be written.

    Raises:
        InputError: The folder does not exist or is not writable, or the path is a folder.
    """
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise InputError(f"the folder of a run file must exist and be writable, got {shown(str(path))}")
    if path.is_dir():
        raise InputError(f"a run file cannot replace a folder, got {shown(str(path))}")


def write_run(path: Path, run: Run, *, tag: str = "gliclass-rerank") -> None:
    """Write a TREC run file (`query Q0 document rank score tag`); it appears whole or not at all.

    Args:
        path: The file; replaced if it exists.
        run: Documents of each query, best first.
        tag: Name of the run, without whitespace.

    Raises:
        InputError: The folder does not exist or is not writable, or the path is a folder.
        DataError: An id or the tag is empty or holds whitespace, which the format cannot express.
    """
    check_run_path(path)
    with atomic_file(path) as staging, staging.open("w", encoding="utf-8", newline="\n") as handle:
        handle.writelines(_lines(run, tag))


def _lines(run: Run, tag: str) -> Iterator[str]:
    for query_id, doc_ids in run.items():
        for rank, (doc_id, score) in enumerate(scored(doc_ids), start=1):
            row = (_word(query_id), "Q0", _word(doc_id), str(rank), str(score), _word(tag))
            yield " ".join(row) + "\n"


def _word(text: str) -> str:
    if text.split() != [text]:
        raise DataError(f"a TREC run cannot hold {shown(text)}: ids must be non-empty and free of whitespace")
    return text
