"""Tables of a store's file.

A row number names one vector forever: a new text gets a new row. Row numbers ascend with a random gap before each
transaction, so that diverged copies of a file do not share numbers. With the log of removals, an index follows another
process's changes without reading everything.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from gliclass_rerank.database.schema import Schema
from gliclass_rerank.errors import DataError, cause
from gliclass_rerank.examples.text_identity import text_digest

_TABLES_1: Final = (
    # One row: identity of the file, and the lower bound of the next row number.
    "CREATE TABLE store (encoder TEXT NOT NULL, dim INTEGER NOT NULL, probe BLOB NOT NULL, state INTEGER NOT NULL,"
    " last_row INTEGER NOT NULL)",
    "CREATE TABLE examples (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, example TEXT NOT NULL,"
    " metadata TEXT NOT NULL)",
    # Separate from the examples, so that these can be scanned without vectors.
    "CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)",
)
_NEW_IN_2: Final = (
    # Digests of normalised texts, to find a query's own judgements.
    "CREATE TABLE texts (row INTEGER PRIMARY KEY, digest BLOB NOT NULL)",
    "CREATE INDEX texts_by_digest ON texts (digest)",
    # The newest removals, in order.
    "CREATE TABLE removals (number INTEGER PRIMARY KEY, row INTEGER NOT NULL)",
)
# Created with the first index; stores of earlier versions lack it.
INDEX_FILES: Final = "CREATE TABLE index_files (number INTEGER PRIMARY KEY, digest TEXT NOT NULL)"
POSITION: Final = "SELECT state, last_row, (SELECT max(number) FROM removals) FROM store"


def _upgrade(connection: sqlite3.Connection, _version: int) -> None:
    for statement in _NEW_IN_2:
        connection.execute(statement)
    try:
        connection.executemany(
            "INSERT INTO texts VALUES (?, ?)",
            (
                (row, text_digest(json.loads(example)["text"]))
                for row, example in connection.execute("SELECT row, example FROM examples")
            ),
        )
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"a store of format 1 cannot be converted: {cause(error)}") from error


STORE_SCHEMA: Final = Schema(
    noun="store",
    kind="example store",
    application_id=0x47435278,  # "GCRx"
    format=2,
    tables=_TABLES_1 + _NEW_IN_2,
    optional=(INDEX_FILES,),
    older=((1, _TABLES_1),),
    upgrade=_upgrade,
)
