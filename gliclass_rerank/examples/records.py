"""Records of a store: examples, metadata and vectors in one SQLite file, the authoritative copy.

Durability is SQLite's: a rollback journal with `synchronous=FULL`. A returned transaction survives a kill and a power
failure; an interrupted one is undone when the file is next opened.

Locking is SQLite's too: with `locking_mode=EXCLUSIVE` the file stays locked until closed, shared by readers or
exclusive
for a writer, and the operating system releases it with the process. (POSIX drops the lock when the same process copies
the file by means other than `backup`.) A process and its forked children take turns, see `family.py`.

A file may have been tampered with: its schema must be the one below, and unreadable records are a `DataError`.

A row number names one vector forever: a new text gets a new row. Row numbers ascend with a random gap before each
transaction, so that diverged copies of a file do not share numbers. An index can therefore be synchronised by comparing
row numbers.
"""

from __future__ import annotations

import ctypes
import json
import logging
import secrets
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np

from gliclass_rerank.checks import MAX_NESTING, is_a, nesting, reading
from gliclass_rerank.errors import DataError, GLiClassRerankError, InputError, cause, listed, shown
from gliclass_rerank.examples.family import Claim, is_claimed
from gliclass_rerank.examples.forks import follow_forks
from gliclass_rerank.examples.index import FloatArray, IntArray
from gliclass_rerank.examples.private_files import PRIVATE, create_private, require_regular
from gliclass_rerank.types import Example

FORMAT: Final = 1
# Application id in SQLite's header: "GCRx".
_APPLICATION_ID: Final = 0x47435278
_LARGE_PAGE: Final = 16384
_MAX_GAP: Final = 2**36
# Placeholders per statement; old SQLite libraries allow 999.
_MAX_PLACEHOLDERS: Final = 900
_CHUNK_ROWS: Final = 4096
_SCHEMA: Final = (
    # One row: identity of the file, and the lower bound of the next row number.
    "CREATE TABLE store (encoder TEXT NOT NULL, dim INTEGER NOT NULL, probe BLOB NOT NULL, state INTEGER NOT NULL,"
    " last_row INTEGER NOT NULL)",
    "CREATE TABLE examples (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, example TEXT NOT NULL,"
    " metadata TEXT NOT NULL)",
    # Separate from the examples, so that these can be scanned without vectors.
    "CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)",
)
_TABLES: Final = tuple(("table", statement.split()[2], statement) for statement in _SCHEMA)
# Created with the first index; stores of earlier versions lack it.
_DIGESTS: Final = "CREATE TABLE index_files (number INTEGER PRIMARY KEY, digest TEXT NOT NULL)"
_DIGEST_TABLE: Final = ("table", "index_files", _DIGESTS)
# Timeout of a fork waiting for a transaction, and of a process waiting for its family.
_LONGEST_TURN_S: Final = 10.0
_FAMILY_WAITS_S: Final = 30.0

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Encoder that filled a store.

    Attributes:
        encoder: Fingerprint.
        probe: FloatArray [dim]. Vector of a fixed text.
    """

    encoder: str
    probe: FloatArray

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return len(self.probe)


@dataclass(frozen=True)
class Stored:
    """Example in a store.

    Attributes:
        id: Id of the example.
        example: Example.
        metadata: Stored metadata, a copy.
    """

    id: str
    example: Example
    metadata: dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class NewRecord:
    """Record to be written.

    Attributes:
        id: Id of the example; None for its row number.
        example: Example.
        metadata: JSON text from `metadata_text`.
    """

    id: str | None
    example: Example
    metadata: str


def metadata_text(name: str, metadata: object) -> str:
    """Serialise metadata to JSON with sorted keys; None is empty, and anything but a JSON object is an `InputError`.

    `name` identifies it in the message.
    """
    if metadata is None:
        return "{}"
    if not is_a(metadata, Mapping):
        raise InputError(f"{name} must be a mapping with strings as keys, got {shown(metadata)}")
    with reading(name):
        values = dict(metadata)  # type: ignore[call-overload] # a mapping
    if not all(is_a(key, str) for key in values):
        raise InputError(f"{name} must be a mapping with strings as keys, got {shown(values)}")
    try:
        text = json.dumps(values, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except Exception as error:  # noqa: BLE001 - of the caller's objects
        raise InputError(f"{name} must hold JSON values only: {cause(error)}") from None
    if nesting(json.loads(text)) > MAX_NESTING:
        raise InputError(f"{name} must be nested at most {MAX_NESTING} deep")
    return text


class Overtaken(Exception):  # noqa: N818 - not an error
    """Concurrent change by another process of the family."""


class Records:
    """Open file of records; threads take turns.

    Args:
        path: Store file, created if missing unless `read_only`; None for memory.
        read_only: Share the file with other readers and change nothing.

    Attributes:
        path: Store file, or None.
        is_shared: The process was forked, or is a fork, since opening: others may change the records.

    Raises:
        DataError: The file is open elsewhere, not a store, damaged or of another format.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.path = path
        self.is_shared = False
        self._read_only = read_only
        self._turn = threading.Lock()
        self._has_turn = False
        self._has_written = False
        self._claim: Claim | None = None
        self._file: tuple[int, int] | None = None
        self._is_closed = False
        self._is_orphaned = False
        self._connection: sqlite3.Connection | None = None
        with self._readable_errors():
            self._connection = self._connected()
        follow_forks(self)

    def _connected(self) -> sqlite3.Connection:
        connection = _connect(self.path, read_only=self._read_only, waits=self.is_shared)
        try:
            self._open(connection)
            self._recognise()
        except BaseException:
            connection.close()  # it may hold half a lock
            raise
        return connection

    def _open(self, connection: sqlite3.Connection) -> None:
        # The file is data: its schema is neither trusted nor executed.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        if not self.is_shared:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        if self._read_only:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # takes the shared lock
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute(f"PRAGMA page_size = {_LARGE_PAGE}")  # several vectors per page; new files only
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        if self.path is not None and not self.is_shared and is_claimed(self.path, read_only=self._read_only):
            raise DataError(self._open_elsewhere)
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        # SQLite's own: indexes of unique columns, and statistics.
        tables = [one for one in tables if not (one[1].startswith("sqlite_") and one[0] in ("table", "index"))]
        if application == _APPLICATION_ID and version != FORMAT:
            raise DataError(f"{self._name} has format {version}, this version of gliclass-rerank reads {FORMAT}")
        if application != _APPLICATION_ID and (tables or application or self._read_only):
            raise DataError(f"{self._name} is no example store")
        if tables and {*tables, _DIGEST_TABLE} != {*_TABLES, _DIGEST_TABLE}:
            raise DataError(f"{self._name} is no example store: it has other tables than one")

    def _recognise(self) -> None:
        """Remember the file's identity, or check that it is still the same file."""
        if self.path is None:
            return
        found = _file_number(self.path)
        if self._file is None:
            self._file = found
        elif self._file != found:
            raise DataError(self._gone)

    @property
    def _name(self) -> str:
        return "the store in memory" if self.path is None else f"the store {listed([str(self.path)])}"

    @property
    def _open_elsewhere(self) -> str:
        return f"{self._name} is open elsewhere; close it there, or open it everywhere with `read_only=True`"

    @property
    def _gone(self) -> str:
        return f"{self._name} was deleted or replaced while it was open; close it and open it again"

    def require_in_place(self) -> None:
        """Check that the file still has its name, so that writes are not lost.

        Raises:
            DataError: It was deleted or replaced.
        """
        if self.path is not None and self._file is not None and _file_number(self.path) != self._file:
            raise DataError(self._gone)

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            reason = str(error)
            if "locked" in reason:
                raise DataError(self._open_elsewhere) from None
            if "not a database" in reason:
                raise DataError(f"{self._name} is no example store") from None
            raise DataError(f"{self._name} cannot be used: {cause(error)}") from error
        except UnicodeEncodeError as error:  # of a text or a path
            raise DataError(f"{self._name} can hold valid Unicode only") from error

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._turn, self._readable_errors():
            if self._is_closed:
                raise InputError(f"{self._name} is closed")
            if self._is_orphaned:
                raise DataError(f"{self._name} was in use when this process was forked; open it again here")
            with self._familys_turn():
                if self._connection is None:
                    self._connection = self._connected()
                yield self._connection

    @contextmanager
    def _familys_turn(self) -> Iterator[None]:
        if self._claim is None:
            yield
            return
        if not self._claim.take_turn(_FAMILY_WAITS_S):
            raise DataError(self._open_elsewhere)
        self._has_written = False
        try:
            yield
        finally:
            self._claim.end_turn(pause=self._has_written)

    def before_fork(self) -> None:
        """Close the connection, which must not exist on both sides of a fork, and claim the file for both."""
        # A thread forking within its own turn, in a signal handler, would deadlock.
        self._has_turn = self._turn.acquire(timeout=_LONGEST_TURN_S)
        if not self._has_turn or self._connection is None or self.path is None:
            return
        try:
            self._claim = self._claim or Claim(self.path, read_only=self._read_only)
        except OSError as error:
            # The folder is not writable. Readers need no claim; a writer continues alone.
            if not self._read_only:
                logger.warning("a forked process cannot share %s: %s", self._name, cause(error))
                return
        self.is_shared = True
        self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Release the turn."""
        if self._has_turn:
            self._turn.release()

    def after_fork_in_child(self) -> None:
        """Renew the lock; the connection is reopened on demand."""
        self._turn = threading.Lock()
        if self._connection is not None and not (self._has_turn and self.path is None):
            # It was in use or not shareable. Closing it could write to the parent's file, so it is leaked.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._connection, self._is_orphaned = None, True

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def is_connected(self) -> bool:
        """True while the file is open; False after a fork until the next use."""
        return self._connection is not None

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:  # Any: SQLite values
        with self._using() as connection:
            return connection.execute(statement, values).fetchall()

    def _one(self, statement: str) -> Any:  # Any: an SQLite value
        found = self._all(statement)
        if len(found) != 1:
            raise DataError(f"{self._name} is broken: it has {len(found)} identity records, not one")
        return found[0][0]

    def _read_out(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that builds objects from untrusted file content."""
        try:
            return read(*args, **kwargs)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise DataError(f"{self._name} is broken: {cause(error)}") from error

    def close(self) -> None:
        """Close the file and release its lock; idempotent."""
        with self._turn:
            self._is_closed = True
            self._disconnect()
            if self._claim is not None:
                self._claim.let_go()

    def identity(self) -> Identity | None:
        """Read the encoder's identity; None for a new store."""
        if not self._all("SELECT 1 FROM sqlite_master"):
            return None
        found = self._all("SELECT encoder, dim, probe FROM store")
        return self._read_out(_identity, found)

    def create(self, identity: Identity) -> None:
        """Create the tables of a new store."""
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
            self.require_in_place()
            self._has_written = True
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                self.require_in_place()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite ends it by itself when the disk is full
                    connection.execute("ROLLBACK")
                raise

    @property
    def state(self) -> int:
        """Random number redrawn with every change: equal numbers mean equal records."""
        return self._read_out(_whole, self._one("SELECT state FROM store"))

    def __len__(self) -> int:
        return self._read_out(_whole, self._one("SELECT count(*) FROM examples"))

    def write(
        self,
        *,
        added: Sequence[NewRecord] = (),
        vectors: FloatArray | None = None,
        removed: Sequence[int] = (),
        rewritten: Mapping[int, NewRecord] | None = None,
        identity: Identity | None = None,
        since: int | None = None,
    ) -> tuple[IntArray, list[str], int]:
        """Change the records in one durable transaction.

        Args:
            added: New records, whose ids are not in the store or are removed by the same call.
            vectors: FloatArray [num_added, dim]. Vectors of the new records.
            removed: Row numbers to delete first.
            rewritten: New contents of rows whose text and vector stay.
            identity: New encoder; None keeps it.
            since: State that the change is based on; None for any.

        Returns:
            Row numbers and ids of the added records, and the new state.

        Raises:
            Overtaken: The state has changed; nothing was written.
        """
        state = _new_state()
        with self._transaction() as connection:
            found = connection.execute("SELECT last_row, state FROM store").fetchall()
            last_row, before = self._read_out(_row_and_state, found)
            if since is not None and since != before:
                raise Overtaken
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
        """Look up row numbers by id; unknown ids are omitted."""
        return {str(name): int(row) for name, row in self._where_in("SELECT id, row FROM examples WHERE id", ids)}

    def find(self, ids: Sequence[str]) -> dict[int, Stored]:
        """Look up examples by id, keyed by row number; unknown ids are omitted."""
        found = self._where_in("SELECT row, id, example, metadata FROM examples WHERE id", ids)
        return {row: self._read_out(_stored, *values) for row, *values in found}

    def read(self, rows: Sequence[int]) -> dict[int, Stored]:
        """Read examples by row number; unknown rows are omitted."""
        found = self._where_in("SELECT row, id, example, metadata FROM examples WHERE row", rows)
        return {row: self._read_out(_stored, *values) for row, *values in found}

    def vectors(self, rows: IntArray) -> tuple[IntArray, FloatArray]:
        """Read the vectors of known rows: ascending row numbers, and FloatArray [num_known, dim]."""
        found = sorted(self._where_in("SELECT row, vector FROM vectors WHERE row", rows.tolist()))
        return self._read_out(_to_arrays, found, self.dim)

    def _where_in(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:  # Any: SQLite values
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(values), _MAX_PLACEHOLDERS):
            part = values[start : start + _MAX_PLACEHOLDERS]
            found += self._all(f"{statement} IN ({','.join('?' * len(part))})", part)
        return found

    def pages(self) -> Iterator[dict[int, Stored]]:
        """Iterate over all examples by row number, in pages that may see concurrent changes."""
        for found in self._paged("SELECT row, id, example, metadata FROM examples"):
            yield {row: self._read_out(_stored, *values) for row, *values in found}

    def _paged(
        self, statement: str, conditions: str = "", values: Sequence[Any] = ()
    ) -> Iterator[list[tuple[Any, ...]]]:  # Any: SQLite values
        """Run a query whose first column is the row number, a page at a time, letting others take turns."""
        last = -1
        while True:
            found = self._all(
                f"{statement} WHERE row > ?{conditions} ORDER BY row LIMIT {_CHUNK_ROWS}", (last, *values)
            )
            if not found:
                return
            if found[-1][0] <= last:
                raise DataError(f"{self._name} is broken: its rows are out of order")
            last = found[-1][0]
            yield found

    def metadata(self, fragments: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:  # Any: JSON
        """Iterate over row numbers and metadata whose JSON contains all fragments."""
        conditions = "".join(" AND instr(metadata, ?)" for _ in fragments)
        for found in self._paged("SELECT row, metadata FROM examples", conditions, fragments):
            yield from ((row, self._read_out(_metadata, text)) for row, text in found)

    # The vectors of an index, see `VectorSource`.

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self._read_out(_whole, self._one("SELECT dim FROM store"))

    def rows(self) -> IntArray:
        """All row numbers, ascending."""
        # The examples' table is the smaller one to scan.
        return np.array([row for (row,) in self._all("SELECT row FROM examples ORDER BY row")], dtype=np.int64)

    def chunks(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Read all vectors: ascending row numbers and FloatArray [chunk, dim]."""
        dim = self.dim
        for found in self._paged("SELECT row, vector FROM vectors"):
            yield self._read_out(_to_arrays, found, dim)

    def sample(self, count: int) -> FloatArray:
        """Read a deterministic random sample of vectors, FloatArray [count, dim]."""
        rows = self.rows()
        if count < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
        return self.vectors(rows)[1]

    def backup(self, path: Path) -> None:
        """Copy the records to a new file; an `InputError` if it exists."""
        try:
            create_private(path, self.mode)
        except FileExistsError:
            raise InputError(f"a backup is never written over another file, {listed([str(path)])} exists") from None
        except (OSError, ValueError) as error:
            raise InputError(f"a backup is a file in an existing folder, got {shown(str(path))}") from error
        with self._using() as connection:
            target = sqlite3.connect(path)
            try:
                connection.backup(target)
            finally:
                target.close()

    def index_digests(self) -> frozenset[str] | None:
        """Digests of the last two index files, in case the last was never put in place; None before the first."""
        if not self._all("SELECT 1 FROM sqlite_master WHERE name = 'index_files'"):
            return None
        return frozenset(str(digest) for (digest,) in self._all("SELECT digest FROM index_files"))

    def note_index(self, digest: str) -> None:
        """Store the digest of an index file before it is put in place."""
        with self._transaction() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'index_files'").fetchone():
                connection.execute(_DIGESTS)
            connection.execute("INSERT INTO index_files (digest) VALUES (?)", (digest,))
            connection.execute("DELETE FROM index_files WHERE number < (SELECT max(number) - 1 FROM index_files)")

    @property
    def mode(self) -> int:
        """Permissions of the file, and of files created beside it."""
        return PRIVATE if self.path is None else stat.S_IMODE(self.path.stat().st_mode) & 0o666


def _connect(path: Path | None, *, read_only: bool, waits: bool) -> sqlite3.Connection:
    # Transactions and turns are handled by `Records`, so that threads may share a connection.
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        if not path.parent.is_dir() or path.is_dir():
            raise InputError(f"a store is a file in an existing folder, got {listed([str(path)])}")
        if not path.exists() and not waits:
            if read_only:
                raise DataError(f"there is no store {listed([str(path)])}")
            with suppress(FileExistsError):
                create_private(path.resolve())
        require_regular(path, follow_links=True)
    except (OSError, ValueError) as error:  # name too long, or with a null byte
        if isinstance(error, GLiClassRerankError):
            raise
        raise DataError(f"the store {listed([str(path)])} cannot be opened: {cause(error)}") from error
    # Readers open the file for writing if possible, to undo what a killed writer left.
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=_FAMILY_WAITS_S if waits else 0,
        isolation_level=None,
        check_same_thread=False,
    )


def _file_number(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _new_state() -> int:
    return secrets.randbits(62)


def _example_text(example: Example) -> str:
    return json.dumps(example.to_dict(), ensure_ascii=False, separators=(",", ":"))


def _stored(name: object, example: str, metadata: str) -> Stored:
    if not isinstance(name, str):
        raise TypeError("an id is not a text")
    return Stored(name, Example(**json.loads(example)), _metadata(metadata))


def _metadata(text: str) -> dict[str, Any]:  # Any: JSON
    values = json.loads(text)
    if not isinstance(values, dict):
        raise TypeError("metadata are not a mapping")
    return values


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a row number is not a number")
    return value


def _row_and_state(found: Sequence[tuple[object, object]]) -> tuple[int, int]:
    ((row, state),) = found
    return _whole(row), _whole(state)


def _identity(found: Sequence[tuple[Any, ...]]) -> Identity:  # Any: SQLite values
    ((encoder, dim, probe),) = found
    if not isinstance(encoder, str):
        raise TypeError("the encoder's name is not a text")
    return Identity(encoder, _to_vectors([probe], dim)[0])


def _to_blob(vector: FloatArray) -> bytes:
    return vector.astype("<f4").tobytes()


def _to_vectors(blobs: Sequence[bytes], dim: int) -> FloatArray:
    if any(len(blob) != 4 * dim for blob in blobs):
        raise ValueError(f"a vector does not have {dim} numbers")
    vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), dim)
    if not np.isfinite(vectors).all():
        raise ValueError("a vector is not finite")
    return vectors.astype(np.float32)


def _to_arrays(found: Sequence[tuple[Any, ...]], dim: int) -> tuple[IntArray, FloatArray]:  # Any: SQLite values
    rows = np.array([row for row, _ in found], dtype=np.int64)
    return rows, _to_vectors([vector for _, vector in found], dim)
