"""Opening of a database file: private, recognised before anything is written, with a write-ahead log."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from gliclass_rerank.database.private_files import create_private, require_regular
from gliclass_rerank.database.schema import Schema
from gliclass_rerank.errors import DataError, GLiClassRerankError, InputError, cause, listed

# Readers wait only while the log is recovered or put away.
WAITS_S: Final = 10.0
_LARGE_PAGE: Final = 16384
_POLL_S: Final = 0.001
_NUM_ATTEMPTS: Final = 5


def file_number(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_locked(error: sqlite3.Error) -> bool:
    """Test if an error means that somebody else holds a lock."""
    return "locked" in str(error)


def require_file(path: Path, noun: str, *, may_create: bool) -> None:
    """Check for a regular file, creating an empty private one if allowed.

    Args:
        path: File.
        noun: Name of the kind of file for messages.
        may_create: Create the file if it is missing.

    Raises:
        InputError: No file can be there.
        DataError: It is missing, or not a regular file.
    """
    try:
        if not path.parent.is_dir() or path.is_dir():
            raise InputError(f"a {noun} is a file in an existing folder, got {listed([str(path)])}")
        if not path.exists():
            if not may_create:
                raise DataError(f"there is no {noun} {listed([str(path)])}")
            with suppress(FileExistsError):
                create_private(path.resolve())
        require_regular(path, follow_links=True)
    except (OSError, ValueError) as error:  # name too long, or with a null byte
        if isinstance(error, GLiClassRerankError):
            raise
        raise DataError(f"the {noun} {listed([str(path)])} cannot be opened: {cause(error)}") from error


def connect(path: Path | None, schema: Schema, name: str, *, read_only: bool) -> sqlite3.Connection:
    """Open a connection, to be shared by threads that take turns.

    Args:
        path: Existing file; None for memory.
        schema: Format that the file must have, unless it is empty.
        name: Name of the file for messages.
        read_only: Change nothing.

    Returns:
        Connection without implicit transactions.

    Raises:
        DataError: Not such a file, or it was replaced meanwhile.
        sqlite3.Error: The file cannot be opened.
    """
    if path is None:
        return _configured(_opened(":memory:"), schema, name, read_only=False)
    for _ in range(_NUM_ATTEMPTS):
        before = file_number(path)
        connection = _of_file(path, schema, name, read_only=read_only)
        # A file that was replaced while it was opened would take changes to its grave.
        if before is not None and before == file_number(path):
            return connection
        connection.close()
    raise DataError(f"{name} was replaced while it was opened")


def _of_file(path: Path, schema: Schema, name: str, *, read_only: bool) -> sqlite3.Connection:
    try:
        # Readers open for writing if possible, to undo what a killed writer left.
        return _configured(_opened(f"{path.as_uri()}?mode=rw"), schema, name, read_only=read_only)
    except sqlite3.OperationalError as error:
        # The log needs a file beside the database. Nothing changes where none can be made.
        if not read_only or is_locked(error) or path.with_name(f"{path.name}-wal").exists():
            raise
        return _configured(_opened(f"{path.as_uri()}?mode=ro&immutable=1"), schema, name, read_only=True)


def _opened(target: str) -> sqlite3.Connection:
    return sqlite3.connect(target, uri=True, timeout=WAITS_S, isolation_level=None, check_same_thread=False)


def _configured(connection: sqlite3.Connection, schema: Schema, name: str, *, read_only: bool) -> sqlite3.Connection:
    try:
        # The file is data: its schema is neither trusted nor executed.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        version = schema.found(connection, name)
        if read_only:
            if not version:
                raise DataError(f"{name} is no {schema.kind}")
            if version != schema.format:
                raise DataError(f"{name} has format {version}; open it once without `read_only=True` to convert it")
            connection.execute("PRAGMA query_only = ON")
            return connection
        connection.execute(f"PRAGMA page_size = {_LARGE_PAGE}")  # several vectors per page; new files only
        _write_ahead(connection)
        connection.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten
    except BaseException:
        connection.close()  # it may hold half a lock
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let readers go on while one writes; a file system without shared memory keeps the rollback journal."""
    deadline = time.monotonic() + WAITS_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:  # this pragma does not wait by itself
            if not is_locked(error) or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)
