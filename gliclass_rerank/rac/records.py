"""The records of a store: examples, metadata and vectors in one SQLite file. What is in here is the truth.

Durability is SQLite's: a rollback journal and `synchronous=FULL`, so that a transaction that has returned survives a
kill and a power failure, and one that has not is undone when the file is next opened.

So is the lock between processes: the file is opened with `locking_mode=EXCLUSIVE`, so that SQLite's own lock on it is
kept until it is closed, shared by readers and exclusive for a writer. The operating system drops it with the process;
no stale lock file can be left behind. (Copying the file by other means than `backup` from within the process that has
it open drops the lock too: a rule of POSIX.)

A row number names one vector forever: a new text gets a new row number. Row numbers ascend with a random gap before
each transaction, so that two copies of a file that went different ways do not give the same number to two vectors. That
is why an index can be brought up to date by comparing row numbers, whatever happened since it was saved.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.rac.index import FloatArray, IntArray
from gliclass_rerank.types import Example

FORMAT: Final = 1
# Marks the file as ours, in SQLite's header: "GCRx".
_APPLICATION_ID: Final = 0x47435278
_LARGE_PAGE: Final = 16384
_MAX_GAP: Final = 2**36
# Placeholders in one statement; old SQLite libraries allow 999.
_MAX_PLACEHOLDERS: Final = 900
_CHUNK_ROWS: Final = 4096
_SCHEMA: Final = (
    # One row: what the file is, and what its next row number must exceed.
    "CREATE TABLE store (encoder TEXT NOT NULL, dim INTEGER NOT NULL, probe BLOB NOT NULL, state INTEGER NOT NULL,"
    " last_row INTEGER NOT NULL)",
    "CREATE TABLE examples (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, example TEXT NOT NULL,"
    " metadata TEXT NOT NULL)",
    # Apart from the examples, so that these can be read through without them.
    "CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)",
)


@dataclass(frozen=True)
class Identity:
    """Which encoder filled a store.

    Attributes:
        encoder: Its fingerprint.
        probe: FloatArray [dim]. Its vector of a fixed text.
    """

    encoder: str
    probe: FloatArray

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return len(self.probe)


@dataclass(frozen=True)
class Stored:
    """An example in a store.

    Attributes:
        id: Its name.
        example: The example.
        metadata: What was stored with it; the caller's to change.
    """

    id: str
    example: Example
    metadata: dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class NewRecord:
    """What is to be written.

    Attributes:
        id: The example's name; None takes its row number.
        example: The example.
        metadata: JSON text, of `metadata_text`.
    """

    id: str | None
    example: Example
    metadata: str


def metadata_text(name: str, metadata: object) -> str:
    """Write metadata as JSON.

    Args:
        name: What to call it in an error.
        metadata: A mapping of strings to JSON values; None for an empty one.

    Returns:
        The JSON text, keys sorted.

    Raises:
        InputError: Not such a mapping.
    """
    if metadata is None:
        return "{}"
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        raise InputError(f"{name} must be a mapping with strings as keys, got {metadata!r}")
    try:
        text = json.dumps(dict(metadata), allow_nan=False, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must hold JSON values only: {error}") from None
    return text


class Records:
    """An open file of records. Methods may be called from several threads; they take turns.

    Args:
        path: The file; made if it does not exist, unless `read_only`. None keeps the records in memory.
        read_only: Share the file with other readers and change nothing.

    Attributes:
        path: The file, or None.

    Raises:
        DataError: The file is open elsewhere, is not one of ours, is broken or of another format.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.path = path
        self._process = os.getpid()
        self._turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        with self._readable_errors():
            connection = _connect(path, read_only=read_only)
            try:
                self._open(connection, read_only=read_only)
            except BaseException:
                connection.close()  # it may hold half a lock
                raise
        self._connection = connection

    def _open(self, connection: sqlite3.Connection, *, read_only: bool) -> None:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        if read_only:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # takes the shared lock
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute(f"PRAGMA page_size = {_LARGE_PAGE}")  # several vectors a page; new files only
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (num_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == _APPLICATION_ID and version != FORMAT:
            raise DataError(f"{self._name} has format {version}, this version of gliclass-rerank reads {FORMAT}")
        if application != _APPLICATION_ID and (num_tables or application or read_only):
            raise DataError(f"{self._name} is no example store")

    @property
    def _name(self) -> str:
        return "the store in memory" if self.path is None else f"the store `{self.path}`"

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            reason = str(error)
            if "locked" in reason:
                raise DataError(
                    f"{self._name} is open elsewhere; close it there, or open it everywhere with `read_only=True`"
                ) from None
            if "not a database" in reason:
                raise DataError(f"{self._name} is no example store") from None
            raise DataError(f"{self._name} cannot be used: {reason}") from error

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        if self.path is not None and os.getpid() != self._process:
            raise DataError(f"{self._name} was opened before this process was forked; open it again in the new one")
        with self._turn, self._readable_errors():
            if self._connection is None:
                raise InputError(f"{self._name} is closed")
            yield self._connection

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:  # Any: SQLite values
        with self._using() as connection:
            return connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the file and give up its lock; a second call does nothing."""
        with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None and os.getpid() == self._process:
                connection.close()

    def identity(self) -> Identity | None:
        """Read which encoder filled the store.

        Returns:
            None if it is new.
        """
        if not self._all("SELECT 1 FROM sqlite_master"):
            return None
        ((encoder, dim, probe),) = self._all("SELECT encoder, dim, probe FROM store")
        return Identity(encoder, _to_vectors([probe], dim)[0])

    def create(self, identity: Identity) -> None:
        """Make the tables of a new store.

        Args:
            identity: Its encoder.
        """
        with self._transaction() as connection:
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            for statement in _SCHEMA:
                connection.execute(statement)
            values = (identity.encoder, identity.dim, _to_blob(identity.probe), _new_state(), 0)
            connection.execute("INSERT INTO store VALUES (?, ?, ?, ?, ?)", values)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite ends it by itself when the disk is full
                    connection.execute("ROLLBACK")
                raise

    @property
    def state(self) -> int:
        """A number that is drawn anew with every change: equal numbers mean equal records."""
        ((state,),) = self._all("SELECT state FROM store")
        return int(state)

    def __len__(self) -> int:
        ((count,),) = self._all("SELECT count(*) FROM examples")
        return int(count)

    def write(
        self,
        *,
        added: Sequence[NewRecord] = (),
        vectors: FloatArray | None = None,
        removed: Sequence[int] = (),
        rewritten: Mapping[int, NewRecord] | None = None,
        identity: Identity | None = None,
    ) -> tuple[IntArray, list[str], int]:
        """Change the records, all in one transaction; it is safe on the disk when this returns.

        Args:
            added: New records. Their ids must not be in the store, or be removed by the same call.
            vectors: FloatArray [num_added, dim]. Their vectors.
            removed: Row numbers to delete; they are deleted first.
            rewritten: New contents of rows whose text and vector stay.
            identity: Another encoder from now on.

        Returns:
            The row numbers and the ids of what was added, and the new state.
        """
        state = _new_state()
        with self._transaction() as connection:
            ((last_row,),) = connection.execute("SELECT last_row FROM store").fetchall()
            connection.executemany("DELETE FROM examples WHERE row = ?", ((row,) for row in removed))
            connection.executemany("DELETE FROM vectors WHERE row = ?", ((row,) for row in removed))
            connection.executemany(
                "UPDATE examples SET example = ?, metadata = ? WHERE row = ?",
                ((_example_text(new.example), new.metadata, row) for row, new in (rewritten or {}).items()),
            )
            first = last_row + 1 + secrets.randbelow(_MAX_GAP)
            rows = range(first, first + len(added))
            ids = [f"{row:016x}" if new.id is None else new.id for row, new in zip(rows, added, strict=True)]
            if added:
                assert vectors is not None, "records were given without vectors"
                connection.executemany(
                    "INSERT INTO examples VALUES (?, ?, ?, ?)",
                    (
                        (row, name, _example_text(new.example), new.metadata)
                        for row, name, new in zip(rows, ids, added, strict=True)
                    ),
                )
                connection.executemany(
                    "INSERT INTO vectors VALUES (?, ?)", zip(rows, map(_to_blob, vectors), strict=True)
                )
                last_row = rows[-1]
            connection.execute("UPDATE store SET state = ?, last_row = ?", (state, last_row))
            if identity is not None:
                values = (identity.encoder, identity.dim, _to_blob(identity.probe))
                connection.execute("UPDATE store SET encoder = ?, dim = ?, probe = ?", values)
        return np.arange(first, first + len(added), dtype=np.int64), ids, state

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Look up row numbers.

        Args:
            ids: Names of examples.

        Returns:
            Row numbers by name, of those that are there.
        """
        return {str(name): int(row) for name, row in self._where_in("SELECT id, row FROM examples WHERE id", ids)}

    def find(self, ids: Sequence[str]) -> dict[int, Stored]:
        """Look examples up.

        Args:
            ids: Names of examples.

        Returns:
            Examples by row number, of those that are there.
        """
        found = self._where_in("SELECT row, id, example, metadata FROM examples WHERE id", ids)
        return {int(row): _stored(*values) for row, *values in found}

    def read(self, rows: Sequence[int]) -> dict[int, Stored]:
        """Read examples.

        Args:
            rows: Row numbers.

        Returns:
            Examples by row number, of those that are there.
        """
        found = self._where_in("SELECT row, id, example, metadata FROM examples WHERE row", rows)
        return {int(row): _stored(*values) for row, *values in found}

    def vectors(self, rows: IntArray) -> tuple[IntArray, FloatArray]:
        """Read vectors.

        Args:
            rows: IntArray [num_asked]. Row numbers.

        Returns:
            The row numbers that are there, ascending, and FloatArray [num_there, dim].
        """
        found = sorted(self._where_in("SELECT row, vector FROM vectors WHERE row", rows.tolist()))
        return _to_arrays(found, self.dim)

    def _where_in(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:  # Any: SQLite values
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(values), _MAX_PLACEHOLDERS):
            part = values[start : start + _MAX_PLACEHOLDERS]
            found += self._all(f"{statement} IN ({','.join('?' * len(part))})", part)
        return found

    def pages(self) -> Iterator[dict[int, Stored]]:
        """Read all examples, in the order of their row numbers, page by page.

        What is changed meanwhile is seen if its page has not been read.

        Yields:
            Examples by row number.
        """
        for found in self._paged("SELECT row, id, example, metadata FROM examples"):
            yield {int(row): _stored(*values) for row, *values in found}

    def _paged(
        self, statement: str, conditions: str = "", values: Sequence[Any] = ()
    ) -> Iterator[list[tuple[Any, ...]]]:  # Any: SQLite values
        """Run a query whose first column is the row number, a page at a time, so that others get their turns."""
        last = -1
        while True:
            found = self._all(
                f"{statement} WHERE row > ?{conditions} ORDER BY row LIMIT {_CHUNK_ROWS}", (last, *values)
            )
            if not found:
                return
            last = found[-1][0]
            yield found

    def metadata(self, fragments: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:  # Any: JSON
        """Read the metadata of all examples, in the order of their row numbers.

        Args:
            fragments: Texts that the metadata's JSON must contain.

        Yields:
            Row number and metadata.
        """
        conditions = "".join(" AND instr(metadata, ?)" for _ in fragments)
        for found in self._paged("SELECT row, metadata FROM examples", conditions, fragments):
            yield from ((int(row), json.loads(text)) for row, text in found)

    # What an index is built from, see `VectorSource`.

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        ((dim,),) = self._all("SELECT dim FROM store")
        return int(dim)

    def rows(self) -> IntArray:
        """All row numbers, ascending."""
        # The examples' table is the smaller one to walk through.
        return np.array([row for (row,) in self._all("SELECT row FROM examples ORDER BY row")], dtype=np.int64)

    def chunks(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """See `VectorSource`.

        Yields:
            Row numbers and vectors.
        """
        dim = self.dim
        for found in self._paged("SELECT row, vector FROM vectors"):
            yield _to_arrays(found, dim)

    def sample(self, count: int) -> FloatArray:
        """See `VectorSource`.

        Args:
            count: How many vectors.

        Returns:
            The vectors.
        """
        rows = self.rows()
        if count < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
        return self.vectors(rows)[1]

    def backup(self, path: Path) -> None:
        """Copy the records to another file.

        Args:
            path: A file that does not exist.

        Raises:
            InputError: It exists.
        """
        if path.exists():
            raise InputError(f"a backup is never written over another file, `{path}` exists")
        with self._using() as connection:
            target = sqlite3.connect(path)
            try:
                connection.backup(target)
            finally:
                target.close()


def _connect(path: Path | None, *, read_only: bool) -> sqlite3.Connection:
    # Transactions are begun by hand, and turns are taken by `Records`, so that threads may share a connection.
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(f"a store is a file in an existing folder, got `{path}`")
    if read_only and not path.exists():
        raise DataError(f"there is no store `{path}`")
    # Also a reader opens the file for writing, if it may: it has to undo what a killed writer left.
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _new_state() -> int:
    return secrets.randbits(62)


def _example_text(example: Example) -> str:
    return json.dumps(example.to_dict(), ensure_ascii=False, separators=(",", ":"))


def _stored(name: str, example: str, metadata: str) -> Stored:
    return Stored(name, Example(**json.loads(example)), json.loads(metadata))


def _to_blob(vector: FloatArray) -> bytes:
    return vector.astype("<f4").tobytes()


def _to_vectors(blobs: Sequence[bytes], dim: int) -> FloatArray:
    vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), dim)
    return vectors.astype(np.float32)


def _to_arrays(found: Sequence[tuple[Any, ...]], dim: int) -> tuple[IntArray, FloatArray]:  # Any: SQLite values
    rows = np.array([row for row, _ in found], dtype=np.int64)
    return rows, _to_vectors([vector for _, vector in found], dim)
