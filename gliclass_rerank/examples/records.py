"""Records of a store: examples, metadata and vectors in one SQLite file, the authoritative copy.

Durability and locking are the database's (`database/database.py`). A file may have been tampered with: its schema must
be ours (`store_schema.py`), and unreadable records are a `DataError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np

from gliclass_rerank.database.database import Database
from gliclass_rerank.errors import DataError, cause
from gliclass_rerank.examples.changes import Change, apply
from gliclass_rerank.examples.index import FloatArray, IntArray
from gliclass_rerank.examples.rows import (
    Identity,
    Position,
    Stored,
    to_arrays,
    to_blob,
    to_identity,
    to_metadata,
    to_position,
    to_stored,
    whole,
)
from gliclass_rerank.examples.store_schema import INDEX_FILES, POSITION, STORE_SCHEMA

# Placeholders per statement; old SQLite libraries allow 999.
_MAX_PLACEHOLDERS: Final = 900
_CHUNK_ROWS: Final = 4096
# Several processes may write an index at once: whose file ends up in place is not known.
_NUM_INDEX_FILES: Final = 8

P = ParamSpec("P")
T = TypeVar("T")


class Records:
    """Open file of records; thread-safe.

    Args:
        path: Store file, created if missing unless `read_only`; None for memory.
        read_only: Change nothing.

    Attributes:
        database: The file.

    Raises:
        DataError: The file is not a store, damaged, of another format, or locked by another program.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.database = Database(path, STORE_SCHEMA, read_only=read_only)

    def _read_out(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that builds objects from untrusted file content."""
        try:
            return read(*args, **kwargs)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise DataError(f"{self.database.name} is broken: {cause(error)}") from error

    def close(self) -> None:
        """Close the file; idempotent."""
        self.database.close()

    # Identity and history

    def adopt(self, mine: Identity) -> Identity:
        """Read the encoder's identity, or write `mine` into a new store.

        Args:
            mine: Identity for a new store.

        Returns:
            Identity in the store, possibly written by a quicker process.
        """
        if not self._has_tables():
            with self.database.transaction() as connection:
                if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    STORE_SCHEMA.create(connection)
                    values = (mine.encoder, mine.dim, to_blob(mine.probe), 0, 0)
                    connection.execute("INSERT INTO store VALUES (?, ?, ?, ?, ?)", values)
        found = self.database.select("SELECT encoder, dim, probe FROM store")
        return self._read_out(to_identity, found)

    def _has_tables(self) -> bool:
        return bool(self.database.select("SELECT 1 FROM sqlite_master"))

    def position(self) -> Position:
        """Read the point in the history of changes; cheap enough for every search."""
        return self._read_out(to_position, self.database.select(POSITION))

    def alone(self) -> AbstractContextManager[None]:
        """Keep all other writers out, in this process and elsewhere, while the block reads and writes."""
        return self.database.alone()

    def write(self, change: Change) -> tuple[IntArray, list[str], Position]:
        """Change the records in one durable transaction.

        Args:
            change: Change.

        Returns:
            Row numbers and ids of the added records, and the new position.
        """
        with self.database.transaction() as connection:
            before = self._read_out(to_position, connection.execute(POSITION).fetchall())
            rows, ids = apply(connection, change, before.last_row)
            return rows, ids, self._read_out(to_position, connection.execute(POSITION).fetchall())

    def removed_since(self, position: Position) -> IntArray | None:
        """Read the rows removed since a position; None if the log of removals no longer reaches back."""
        found = self.database.select("SELECT number, row FROM removals WHERE number > ?", (position.last_removal,))
        if found and found[0][0] != position.last_removal + 1:
            return None
        return np.array([self._read_out(whole, row) for _, row in found], dtype=np.int64)

    # Examples

    def __len__(self) -> int:
        ((count,),) = self.database.select("SELECT count(*) FROM examples")
        return self._read_out(whole, count)

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Look up row numbers by id; unknown ids are omitted."""
        return {str(name): int(row) for name, row in self._where_in("SELECT id, row FROM examples WHERE id", ids)}

    def find(self, ids: Sequence[str]) -> dict[int, Stored]:
        """Look up examples by id, keyed by row number; unknown ids are omitted."""
        return self._stored(self._where_in("SELECT row, id, example, metadata FROM examples WHERE id", ids))

    def read(self, rows: Sequence[int]) -> dict[int, Stored]:
        """Read examples by row number; unknown rows are omitted."""
        return self._stored(self._where_in("SELECT row, id, example, metadata FROM examples WHERE row", rows))

    def of_texts(self, digests: Sequence[bytes]) -> dict[int, Stored]:
        """Read the examples whose texts have one of some digests, keyed by row number in ascending order."""
        found = self._where_in(
            "SELECT texts.row, id, example, metadata FROM texts JOIN examples ON examples.row = texts.row WHERE digest",
            digests,
        )
        return dict(sorted(self._stored(found).items()))

    def longest(self, count: int) -> dict[int, Stored]:
        """Read the longest examples, keyed by row number."""
        statement = "SELECT row, id, example, metadata FROM examples ORDER BY length(example) DESC, row LIMIT ?"
        return self._stored(self.database.select(statement, (count,)))

    def _stored(self, found: Sequence[tuple[Any, ...]]) -> dict[int, Stored]:  # Any: SQLite values
        return {row: self._read_out(to_stored, *values) for row, *values in found}

    def _where_in(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:  # Any: SQLite values
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(values), _MAX_PLACEHOLDERS):
            part = values[start : start + _MAX_PLACEHOLDERS]
            found += self.database.select(f"{statement} IN ({','.join('?' * len(part))})", part)
        return found

    def pages(self) -> Iterator[dict[int, Stored]]:
        """Iterate over all examples by row number, in pages that may see concurrent changes."""
        for found in self._paged("SELECT row, id, example, metadata FROM examples"):
            yield self._stored(found)

    def _paged(
        self, statement: str, conditions: str = "", values: Sequence[Any] = (), *, after: int = -1
    ) -> Iterator[list[tuple[Any, ...]]]:  # Any: SQLite values
        """Run a query whose first column is the row number, a page at a time, letting others take turns."""
        last = after
        while True:
            found = self.database.select(
                f"{statement} WHERE row > ?{conditions} ORDER BY row LIMIT {_CHUNK_ROWS}", (last, *values)
            )
            if not found:
                return
            if found[-1][0] <= last:
                raise DataError(f"{self.database.name} is broken: its rows are out of order")
            last = found[-1][0]
            yield found

    def metadata(self, fragments: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:  # Any: JSON
        """Iterate over row numbers and metadata whose JSON contains all fragments."""
        conditions = "".join(" AND instr(metadata, ?)" for _ in fragments)
        for found in self._paged("SELECT row, metadata FROM examples", conditions, fragments):
            yield from ((row, self._read_out(to_metadata, text)) for row, text in found)

    # The vectors of an index, see `VectorSource`.

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        ((dim,),) = self.database.select("SELECT dim FROM store") or ((None,),)
        return self._read_out(whole, dim)

    def rows(self) -> IntArray:
        """All row numbers, ascending."""
        # The examples' table is the smaller one to scan.
        found = self.database.select("SELECT row FROM examples ORDER BY row")
        return np.array([row for (row,) in found], dtype=np.int64)

    def vectors(self, rows: IntArray) -> tuple[IntArray, FloatArray]:
        """Read the vectors of known rows: ascending row numbers, and FloatArray [num_known, dim]."""
        found = sorted(self._where_in("SELECT row, vector FROM vectors WHERE row", rows.tolist()))
        return self._read_out(to_arrays, found, self.dim)

    def chunks(self, after: int = -1) -> Iterator[tuple[IntArray, FloatArray]]:
        """Read all vectors behind a row number: ascending row numbers and FloatArray [chunk, dim]."""
        dim = self.dim
        for found in self._paged("SELECT row, vector FROM vectors", after=after):
            yield self._read_out(to_arrays, found, dim)

    def sample(self, count: int) -> FloatArray:
        """Read a deterministic random sample of vectors, FloatArray [count, dim]."""
        rows = self.rows()
        if count < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
        return self.vectors(rows)[1]

    # Index files

    def index_digests(self) -> frozenset[str] | None:
        """Digests of the last index files; None before the first."""
        if not self.database.select("SELECT 1 FROM sqlite_master WHERE name = 'index_files'"):
            return None
        return frozenset(str(digest) for (digest,) in self.database.select("SELECT digest FROM index_files"))

    def note_index(self, digest: str) -> None:
        """Store the digest of an index file."""
        with self.database.transaction() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'index_files'").fetchone():
                connection.execute(INDEX_FILES)
            connection.execute("INSERT INTO index_files (digest) VALUES (?)", (digest,))
            oldest = f"(SELECT max(number) + 1 - {_NUM_INDEX_FILES} FROM index_files)"
            connection.execute(f"DELETE FROM index_files WHERE number < {oldest}")
