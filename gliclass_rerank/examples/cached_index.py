"""Synchronisation of an index in memory with the records.

Each process has an index of its own, which follows the records: a search asks for their position first and catches up
with what others have written. A change goes to the records in one transaction, then to the index; if the second step
fails, the index is rebuilt before its next use. The index file is written on closing and occasionally before; opening
compares row numbers for missing and stale rows, and rebuilds what is damaged, foreign or missing.

Locks are taken in this order: all other writers are kept out (`Records.alone`), the index is tuned by one thread,
searches pause.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import numpy as np

from gliclass_rerank.calls.fork_hooks import follow_forks
from gliclass_rerank.errors import DataError, InputError, cause, listed
from gliclass_rerank.examples.changes import Change
from gliclass_rerank.examples.index import IndexBuilder, VectorIndex
from gliclass_rerank.examples.index_upkeep import catch_up, follow, load, write_file
from gliclass_rerank.examples.locks import SharedLock
from gliclass_rerank.examples.records import Records
from gliclass_rerank.examples.rows import Position

P = ParamSpec("P")
T = TypeVar("T")

# The file is rewritten when it lacks this many changes, or a quarter of all vectors.
_MAX_UNSAVED: Final = 10_000

logger = logging.getLogger(__name__)


class CachedIndex:
    """Index of some records. Searches run concurrently; writers take turns.

    Args:
        records: Records; other processes may change them too.
        builder: Index builder.
        path: Index file, may be missing; None for no file.
        read_only: Leave the file unchanged.

    Raises:
        MissingDependencyError: The backend's package is not installed.
    """

    def __init__(self, records: Records, builder: IndexBuilder, *, path: Path | None, read_only: bool) -> None:
        self._records = records
        self._builder = builder
        self._path = path
        self._read_only = read_only
        self._process = os.getpid()
        self._tuning = threading.Lock()
        self._lock = SharedLock()
        self._is_closed = False
        # Set during a change, and still set after a failed one.
        self._is_doubtful = False
        self._num_unsaved = 0
        self._position = records.position()
        loaded = load(path, builder, records)
        if loaded is None:
            self._index = builder.build(records)
            self._num_unsaved = len(self._index)
        else:
            self._index, self._num_unsaved = loaded
        self._save_if_due()
        follow_forks(self)

    def before_fork(self) -> None:
        """Do nothing: the records keep this object consistent."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Renew the locks; the records' position reveals an interrupted change."""
        self._tuning = threading.Lock()
        self._lock = SharedLock()
        self._is_doubtful = True

    # Use

    def using(self, work: Callable[Concatenate[VectorIndex, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function on an index of all that was written before. It must not use this object.

        Args:
            work: Function of the index.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            Result of the function.

        Raises:
            InputError: The store is closed.
        """
        while True:
            self._require_open()
            self._settle()
            with self._lock.reading():
                self._require_open()
                if not self._is_doubtful:
                    return work(self._index, *args, **kwargs)

    def changing(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function as the only writer of all processes, concurrently with searches.

        Args:
            work: Function that reads, then calls `write`.
            *args: Positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            Result of the function.

        Raises:
            InputError: The store is closed or read-only.
            DataError: Its file was deleted or replaced, or others did not let this process write in time.
        """
        self.require_writable()
        self._settle()  # while others can still write: it may take long
        with self._records.alone():
            self._require_open()
            self._settle()
            result = work(*args, **kwargs)
        if not self._builder.suits(self._index):
            with self._tuning:
                self._rebuild()
        self._save_if_due()
        return result

    def write(self, change: Change) -> list[str]:
        """Change records and index within `changing`, once; returns the ids of the added records."""
        with self._tuning, self._lock.writing():
            self._require_open()
            self._is_doubtful = True
            rows, ids, position = self._records.write(change)
            if len(change.removed):
                self._index.remove(np.array(change.removed, dtype=np.int64))
            if change.vectors is not None:
                self._index.add(rows, change.vectors)
            self._position = position
            self._is_doubtful = False
        self._num_unsaved += len(change.added) + len(change.removed)
        return ids

    def _require_open(self) -> None:
        if self._is_closed:
            raise InputError("the store is closed")

    def require_writable(self) -> None:
        """Check that the store can be changed.

        Raises:
            InputError: It is closed or read-only.
            DataError: Its file was deleted or replaced.
        """
        self._require_open()
        if self._read_only:
            raise InputError("the store was opened with `read_only=True`, it cannot be changed")
        self._records.database.require_in_place()

    # Following the records

    def _is_in_step(self) -> bool:
        return not self._is_doubtful and self._records.position().state == self._position.state

    def _settle(self) -> None:
        """Repair the index after a failed change, and catch up with other processes."""
        if self._is_in_step():
            return
        with self._tuning:
            position = self._records.position()
            if position.state != self._position.state and (self._is_doubtful or not self._follow(position)):
                self._rebuild()
            self._is_doubtful = False

    def _follow(self, position: Position) -> bool:
        """Apply changes of other processes while tuning; False if rebuilding is better."""
        with self._lock.writing():
            self._is_doubtful = True
            num_changed = follow(self._index, self._records, self._position)
            if num_changed is None:
                num_changed = catch_up(self._index, self._records)
            if num_changed is None or not self._builder.suits(self._index):
                return False
            self._num_unsaved += num_changed
            self._position = position
            return True

    def _rebuild(self) -> None:
        """Rebuild the index from the records while tuning; searches use the old one meanwhile."""
        position = self._records.position()
        index = self._builder.build(self._records)
        with self._lock.writing():
            self._index, self._position = index, position
        self._num_unsaved = len(index)

    # The file

    def save(self) -> None:
        """Write the file, unless the index is fast to build.

        Raises:
            InputError: The store is closed or read-only.
            DataError: Its file was deleted or replaced.
        """
        self.require_writable()
        self._settle()
        self._save()

    def _save(self) -> None:
        if self._path is None or self._read_only:
            return
        try:
            with self._tuning:
                if self._index.is_quick_to_build:
                    self._path.unlink(missing_ok=True)
                    digest = None
                else:
                    digest = write_file(self._path, self._index, self._position, self._records.database.mode)
                self._num_unsaved = 0
            if digest is not None:
                self._records.note_index(digest)
        except (OSError, DataError) as error:
            # Only the next start is slower.
            logger.warning("the index %s could not be written: %s", listed([str(self._path)]), cause(error))

    def _save_if_due(self) -> None:
        # Forked children leave the file to the process that opened the store.
        if self._num_unsaved > max(_MAX_UNSAVED, len(self._index) // 4) and os.getpid() == self._process:
            self._save()

    def close(self) -> None:
        """Write the file if it is out of date, and close the records; idempotent."""
        with self._tuning, self._lock.writing():
            if self._is_closed:
                return
            self._is_closed = True
        try:
            if self._num_unsaved and not self._is_doubtful and os.getpid() == self._process:
                self._save_at_end()
        finally:
            self._records.close()

    def _save_at_end(self) -> None:
        try:
            self._records.database.require_in_place()
            if self._records.position().state == self._position.state:
                self._save()
        except DataError as error:
            logger.warning("an index was not written: %s", error)
