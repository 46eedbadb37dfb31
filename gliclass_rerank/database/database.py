"""SQLite file shared by threads, forked children and other processes.

Any number of processes read while one writes; writers take turns. A returned transaction survives a kill and a power
failure (write-ahead log, `synchronous=FULL`); an interrupted one is undone. The operating system releases a killed
process's locks. (POSIX drops a lock when the same process copies the file by means other than `backup`.)

Two connections: reads never wait for a write of the same process. SQLite forbids a connection on both sides of a fork,
so they are closed before one and reopened on demand.
"""

from __future__ import annotations

import ctypes
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.calls.fork_hooks import follow_forks
from gliclass_rerank.database.opening import WAITS_S, connect, file_number, is_locked, require_file
from gliclass_rerank.database.private_files import PRIVATE, create_private
from gliclass_rerank.database.schema import Schema
from gliclass_rerank.errors import DataError, InputError, cause, listed, shown

_DAMAGED: Final = "it is damaged"
# Timeouts of a fork waiting for a transaction, and of a writer waiting for others.
_LONGEST_TURN_S: Final = 10.0
_WRITER_WAITS_S: Final = 30.0
_POLL_S: Final = 0.001
# Others who poll notice the gap: SQLite's own waiting is unfair.
_PAUSE_S: Final = 0.002


class Database:
    """Open database file; thread-safe.

    Args:
        path: File, created if missing unless `read_only`; None for memory.
        schema: Format of the file.
        read_only: Change nothing.

    Attributes:
        path: File, or None.
        name: Name for messages.

    Raises:
        InputError: No file can be there.
        DataError: Not such a file, or locked by another program.
    """

    def __init__(self, path: Path | None, schema: Schema, *, read_only: bool = False) -> None:
        self.path = path
        self.name = f"the {schema.noun} in memory" if path is None else f"the {schema.noun} {listed([str(path)])}"
        self._schema = schema
        self._read_only = read_only
        self._writing, self._turn = threading.Lock(), threading.Lock()
        self._is_held_for_fork = False
        self._writer_thread: int | None = None
        self._last_commit = 0.0
        self._is_closed = self._is_orphaned = False
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        if path is not None:
            require_file(path, schema.noun, may_create=not read_only)
        self._file: tuple[int, int] | None = None
        with self._readable_errors():
            first = self._connected()
            version = schema.found(first, self.name)
        self._file = None if path is None else file_number(path)
        self._reader, self._writer = (first, None) if path is None or read_only else (None, first)
        follow_forks(self)
        if 0 < version < schema.format:
            self._upgrade()

    # Use

    def select(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:  # Any: SQLite values
        """Run a query and read all of its rows."""
        with self.reading() as connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for reading, which sees committed transactions only."""
        with self._turn, self._readable_errors():
            self._require_usable()
            if self._reader is None:
                self._reader = self._connected()
            yield self._reader

    @contextmanager
    def alone(self, *, is_synced: bool = True) -> Iterator[None]:
        """Keep all other writers out, here and elsewhere; reads go on. Not reentrant.

        Args:
            is_synced: Let what is written survive a power failure; else only the end of the process.

        Yields:
            Nothing.

        Raises:
            DataError: Others did not let this process write in time, or the file was deleted or replaced.
        """
        with self._writing:
            self._writer_thread = threading.get_ident()
            try:
                if self.path is not None:
                    with self._readable_errors():
                        self._begin("FULL" if is_synced else "NORMAL")
                yield
            finally:
                self._writer_thread = None
                if self.path is not None:
                    self._rollback(self._writer)

    @contextmanager
    def transaction(self, *, is_synced: bool = True) -> Iterator[sqlite3.Connection]:
        """Commit what the block writes, or nothing; within `alone` or by itself.

        Args:
            is_synced: As for `alone`, within which it has no effect.

        Yields:
            Connection to write with.
        """
        if self._writer_thread != threading.get_ident():
            with self.alone(is_synced=is_synced), self.transaction() as connection:
                yield connection
            return
        if self.path is None:
            with self.reading() as connection:
                connection.execute("BEGIN")
                with self._committing(connection):
                    yield connection
            return
        with self._readable_errors():
            self._require_usable()
            assert self._writer is not None, "`alone` has opened it"
            with self._committing(self._writer):
                yield self._writer
                self.require_in_place()
        self._last_commit = time.monotonic()

    @contextmanager
    def _committing(self, connection: sqlite3.Connection) -> Iterator[None]:
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            self._rollback(connection)
            raise

    def _begin(self, synchronous: str) -> None:
        self._require_usable()
        self.require_in_place()
        time.sleep(max(0.0, self._last_commit + _PAUSE_S - time.monotonic()))
        if self._writer is None:
            self._writer = self._connected()
        self._writer.execute(f"PRAGMA synchronous = {synchronous}")
        self._writer.execute("PRAGMA busy_timeout = 0")
        deadline = time.monotonic() + _WRITER_WAITS_S
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                if not is_locked(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)
        self._writer.execute(f"PRAGMA busy_timeout = {round(1000 * WAITS_S)}")
        self._schema.found(self._writer, self.name)  # nobody has put a trigger there since

    @staticmethod
    def _rollback(connection: sqlite3.Connection | None) -> None:
        # SQLite ends a transaction by itself when the disk is full.
        if connection is not None and connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def _connected(self) -> sqlite3.Connection:
        if self._file is not None:
            self.require_in_place()
        connection = connect(self.path, self._schema, self.name, read_only=self._read_only)
        if self._file is not None and file_number(self.path) != self._file:  # type: ignore[arg-type] # has a path
            connection.close()
            self.require_in_place()
        return connection

    def _upgrade(self) -> None:
        with self.transaction() as connection:
            version = self._schema.found(connection, self.name)
            if version < self._schema.format and self._schema.upgrade is not None:  # nobody was quicker
                self._schema.upgrade(connection, version)
                self._schema.mark(connection)

    def _require_usable(self) -> None:
        if self._is_closed:
            raise InputError(f"{self.name} is closed")
        if self._is_orphaned:
            raise DataError(f"{self.name} was in use when this process was forked; open it again here")

    def require_in_place(self) -> None:
        """Check that the file still has its name, so that writes are not lost.

        Raises:
            DataError: It was deleted or replaced.
        """
        if self.path is not None and file_number(self.path) != self._file:
            raise DataError(f"{self.name} was deleted or replaced while it was open; close it and open it again")

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if is_locked(error):
                raise DataError(f"{self.name} is locked by another process, for longer than expected") from error
            if "not a database" in str(error):
                raise DataError(f"{self.name} is no {self._schema.kind}") from None
            # SQLite quotes a damaged schema as it stands, and Python 3.10 cannot then say what it quotes.
            raise DataError(f"{self.name} cannot be used: {cause(error) if str(error) else _DAMAGED}") from error
        except UnicodeDecodeError:
            raise DataError(f"{self.name} cannot be used: {_DAMAGED}") from None
        except UnicodeEncodeError as error:  # of a text or a path
            raise DataError(f"{self.name} can hold valid Unicode only") from error

    # The file

    @property
    def mode(self) -> int:
        """Permissions of the file, and of files created beside it."""
        return PRIVATE if self.path is None else stat.S_IMODE(self.path.stat().st_mode) & 0o666

    def backup(self, path: Path) -> None:
        """Copy the database to a new file; an `InputError` if it exists."""
        try:
            create_private(path, self.mode)
        except FileExistsError:
            raise InputError(f"a backup is never written over another file, {listed([str(path)])} exists") from None
        except (OSError, ValueError) as error:
            raise InputError(f"a backup is a file in an existing folder, got {shown(str(path))}") from error
        with self.reading() as connection:
            target = sqlite3.connect(path)
            try:
                connection.backup(target)
            finally:
                target.close()

    def put_away(self) -> None:
        """Move the write-ahead log into the file and empty it, unless others read: it may hold removed values."""
        with self._writing, self._readable_errors():
            if self._writer is not None:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Keep everybody else out, readers included, until the file is closed; the block may read.

        Raises:
            DataError: The file is open elsewhere.
        """
        with self._writing, self._turn, self._readable_errors():
            self._disconnect()
            connection = self._connected()
            self._reader = connection
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                # Leaving the write-ahead log takes all others' locks.
                for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"):
                    connection.execute(statement)
            except sqlite3.OperationalError as error:
                if is_locked(error):
                    raise DataError(f"{self.name} is open elsewhere; close it there") from None
                raise
            connection.execute("COMMIT")
        yield

    def close(self) -> None:
        """Close the file; idempotent. A running write ends first."""
        with self._writing, self._turn:
            self._is_closed = True
            self._disconnect()

    def _disconnect(self) -> None:
        connections, self._reader, self._writer = (self._reader, self._writer), None, None
        for connection in connections:
            if connection is not None:
                connection.close()

    # Forks

    def before_fork(self) -> None:
        """Close the connections, which must not exist on both sides of a fork."""
        # A thread forking within its own turn, in a signal handler, would deadlock.
        self._is_held_for_fork = self._writing.acquire(timeout=_LONGEST_TURN_S)
        if self._is_held_for_fork and not self._turn.acquire(timeout=_LONGEST_TURN_S):
            self._writing.release()
            self._is_held_for_fork = False
        if self._is_held_for_fork and self.path is not None:
            self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Release the locks."""
        if self._is_held_for_fork:
            self._turn.release()
            self._writing.release()

    def after_fork_in_child(self) -> None:
        """Renew the locks; connections are reopened on demand."""
        self._writing, self._turn = threading.Lock(), threading.Lock()
        self._writer_thread = None
        if self._is_held_for_fork:
            return
        # They were in use. Closing them could write to the parent's file, so they are leaked.
        for connection in (self._reader, self._writer):
            if connection is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
                self._is_orphaned = True
        self._reader = self._writer = None
