"""Schema of a database file: tables it must have, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gliclass_rerank.errors import DataError


@dataclass(frozen=True)
class Schema:
    """Format of one kind of database file.

    Attributes:
        noun: Name of the kind for messages, such as "store".
        kind: The same with its article, such as "example store".
        application_id: Number in SQLite's header.
        format: Version of the format.
        tables: Statements that create the tables.
        optional: Statements of tables that may be missing.
        older: Tables of earlier formats, by format.
        upgrade: Conversion of an earlier format, within a transaction: connection and format found.
    """

    noun: str
    kind: str
    application_id: int
    format: int
    tables: tuple[str, ...]
    optional: tuple[str, ...] = ()
    older: tuple[tuple[int, tuple[str, ...]], ...] = ()
    upgrade: Callable[[sqlite3.Connection, int], None] | None = None

    def found(self, connection: sqlite3.Connection, name: str) -> int:
        """Recognise an open file.

        Args:
            connection: Open connection; only read.
            name: Name of the file for messages.

        Returns:
            Format of the file; 0 for an empty one.

        Raises:
            DataError: Another kind of file, another format, or other tables.
        """
        with _one_view(connection):
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = self._tables(connection)
        wanted = {self.format: self.tables, **dict(self.older)}
        if application != self.application_id:
            if application or tables:
                raise DataError(f"{name} is no {self.kind}")
            return 0
        if version not in wanted:
            raise DataError(f"{name} has format {version}, this version of gliclass-rerank reads {self.format}")
        required, optional = _described(wanted[version]), _described(self.optional)
        if not required <= tables <= required | optional:
            raise DataError(f"{name} is no {self.kind}: it has other tables than one")
        return int(version)

    def create(self, connection: sqlite3.Connection) -> None:
        """Create the tables in an empty file, within a transaction."""
        connection.execute(f"PRAGMA application_id = {self.application_id}")
        for statement in self.tables:
            connection.execute(statement)
        self.mark(connection)

    def mark(self, connection: sqlite3.Connection) -> None:
        """Write the format's version, within a transaction."""
        connection.execute(f"PRAGMA user_version = {self.format}")

    @staticmethod
    def _tables(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        # SQLite's own: indexes of unique columns, and statistics.
        return {one for one in found if not (one[1].startswith("sqlite_") and one[0] in ("table", "index"))}


@contextmanager
def _one_view(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one state of the file: another process may be creating its tables."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


def _described(statements: tuple[str, ...]) -> set[tuple[str, str, str]]:
    return {(words[1].lower(), words[2], statement) for statement in statements for words in [statement.split()]}
