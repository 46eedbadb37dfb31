"""TREC run files.

TREC tools sort by score, ignore line order and rank column, and break ties their own way. Scores are therefore made
from ranks: distinct integers, exact in single precision.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.learn.evaluation.files import read_lines

_NUM_COLUMNS: Final = 6

Run = Mapping[str, Sequence[str]]


def scored(doc_ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Pair each document of a ranking with a score, from the number of documents down to 1."""
    yield from zip(doc_ids, range(len(doc_ids), 0, -1), strict=True)


def check_run_path(path: Path) -> None:
    """Check that `write_run` can write to a path; an `InputError` if the folder is missing or not writable."""
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise InputError(f"the folder of a run file must exist and be writable, got '{named(path)}'")
    if path.is_dir():
        raise InputError(f"a run file cannot replace a folder, got '{named(path)}'")


def write_run(path: Path, run: Run, *, tag: str = "gliclass-rerank") -> None:
    """Write a TREC run file (`query Q0 document rank score tag`) atomically.

    Args:
        path: Target, replaced if it exists.
        run: Documents by query, best first.
        tag: Name of the run, without whitespace.

    Raises:
        InputError: The folder does not exist or is not writable, or the path is a folder.
        DataError: An id or the tag is empty or contains whitespace.
    """
    check_run_path(path)
    with atomic_file(path) as staging, staging.open("w", encoding="utf-8", newline="\n") as handle:
        handle.writelines(_lines(run, tag))


def read_run(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a TREC run file, ordered by score as TREC tools do; ties stay in the order of the file.

    Args:
        path: File, perhaps gzipped.

    Returns:
        Documents by query, best first.

    Raises:
        DataError: The file is unreadable, a row is malformed, or a document is there twice for a query.
    """
    found: dict[str, dict[str, float]] = {}
    for line, text in read_lines(path):
        place, cells = f"{named(path)}:{line}", text.split()
        if len(cells) != _NUM_COLUMNS:
            raise DataError(f"{place}: must have `query Q0 document rank score tag`, got {len(cells)} columns")
        query_id, _, doc_id, _, score, _ = cells
        scores = found.setdefault(query_id, {})
        if doc_id in scores:
            raise DataError(f"{place}: a second row for the document `{named(doc_id)}`")
        scores[doc_id] = _number(score, place)
    return {query_id: tuple(sorted(scores, key=scores.__getitem__, reverse=True)) for query_id, scores in found.items()}


def _number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise DataError(f"{place}: the score must be a number, got {shown(text)}")
    return value


def _lines(run: Run, tag: str) -> Iterator[str]:
    for query_id, doc_ids in run.items():
        for rank, (doc_id, score) in enumerate(scored(doc_ids), start=1):
            row = (_word(query_id), "Q0", _word(doc_id), str(rank), str(score), _word(tag))
            yield " ".join(row) + "\n"


def _word(text: str) -> str:
    if text.split() != [text]:
        raise DataError(f"a TREC run cannot hold {shown(text)}: ids must be non-empty and free of whitespace")
    return text
