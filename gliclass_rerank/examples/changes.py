"""Changes of a store's records."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gliclass_rerank.examples.index import FloatArray, IntArray
from gliclass_rerank.examples.rows import NewRecord, example_text, to_blob
from gliclass_rerank.examples.text_identity import text_digest

_MAX_GAP: Final = 2**36
# An index that lacks more removals compares all rows.
_NUM_REMOVALS: Final = 10_000


@dataclass(frozen=True)
class Change:
    """Change of records.

    Attributes:
        added: New records, whose ids are not in the store or are removed by the same change.
        vectors: FloatArray [num_added, dim]. Vectors of the new records.
        removed: Row numbers to delete first.
        rewritten: New contents of rows whose text and vector stay.
    """

    added: Sequence[NewRecord] = ()
    vectors: FloatArray | None = None
    removed: Sequence[int] = ()
    rewritten: Mapping[int, NewRecord] = field(default_factory=dict)


def apply(connection: sqlite3.Connection, change: Change, last_row: int) -> tuple[IntArray, list[str]]:
    """Write a change within a transaction.

    Args:
        connection: Connection in a transaction.
        change: Change.
        last_row: Greatest row number ever given.

    Returns:
        Row numbers and ids of the added records.
    """
    _remove(connection, change.removed)
    connection.executemany(
        "UPDATE examples SET example = ?, metadata = ? WHERE row = ?",
        ((example_text(new.example), new.metadata, row) for row, new in change.rewritten.items()),
    )
    first = last_row + 1 + secrets.randbelow(_MAX_GAP)
    rows = range(first, first + len(change.added))
    ids = [f"{row:016x}" if new.id is None else new.id for row, new in zip(rows, change.added, strict=True)]
    _add(connection, rows, ids, change)
    values = (secrets.randbits(62), rows[-1] if rows else last_row)
    connection.execute("UPDATE store SET state = ?, last_row = ?", values)
    return np.arange(first, first + len(rows), dtype=np.int64), ids


def _remove(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    if not rows:
        return
    each = [(row,) for row in rows]
    for table in ("examples", "vectors", "texts"):
        connection.executemany(f"DELETE FROM {table} WHERE row = ?", each)
    connection.executemany("INSERT INTO removals (row) VALUES (?)", each)
    connection.execute(f"DELETE FROM removals WHERE number <= (SELECT max(number) - {_NUM_REMOVALS} FROM removals)")


def _add(connection: sqlite3.Connection, rows: range, ids: Sequence[str], change: Change) -> None:
    if not rows:
        return
    assert change.vectors is not None, "records were given without vectors"
    records = list(zip(rows, ids, change.added, strict=True))
    connection.executemany(
        "INSERT INTO examples VALUES (?, ?, ?, ?)",
        ((row, name, example_text(new.example), new.metadata) for row, name, new in records),
    )
    connection.executemany("INSERT INTO vectors VALUES (?, ?)", zip(rows, map(to_blob, change.vectors), strict=True))
    connection.executemany(
        "INSERT INTO texts VALUES (?, ?)", ((row, text_digest(new.example.text)) for row, _, new in records)
    )
