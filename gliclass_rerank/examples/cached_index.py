"""Synchronisation of an index, in memory and on disk, with the records.

A change goes to the records in one transaction, then to the index in memory; if the second step fails, the index is
rebuilt before its next use. The index file is written on closing and occasionally before; the records keep its digest.
Opening compares row numbers for missing and stale rows; a damaged, foreign or missing file is rebuilt.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import numpy as np

from gliclass_rerank._version import __version__
from gliclass_rerank.errors import DataError, InputError, MissingDependencyError, cause, listed
from gliclass_rerank.examples.forks import follow_forks
from gliclass_rerank.examples.index import FloatArray, IndexBuilder, VectorIndex
from gliclass_rerank.examples.index_file import read_index_file, write_index_file
from gliclass_rerank.examples.locks import SharedLock
from gliclass_rerank.examples.records import NewRecord, Overtaken, Records

P = ParamSpec("P")
T = TypeVar("T")

# The file is rewritten when it lacks this many changes, or a quarter of all vectors.
_MAX_UNSAVED: Final = 10_000
_BATCH_ROWS: Final = 4096

logger = logging.getLogger(__name__)


class CachedIndex:
    """Index of some records. Searches run concurrently; writers take turns.

    Args:
        records: Records, changed through this object only from now on.
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
        self._writer = threading.Lock()
        self._lock = SharedLock()
        self._is_closed = False
        # Set during a change, and still set after a failed one.
        self._is_doubtful = False
        self._num_unsaved = 0
        self._state = records.state
        loaded = self._load()
        if loaded is None:
            self._index = builder.build(records)
            self._num_unsaved = len(self._index)
            self._save_if_due()
        else:
            self._index = loaded
        follow_forks(self)

    def before_fork(self) -> None:
        """Do nothing: the records keep this object consistent."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Renew the locks; the records' state reveals an interrupted change."""
        self._writer = threading.Lock()
        self._lock = SharedLock()
        self._is_doubtful = True

    def using(self, work: Callable[Concatenate[VectorIndex, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function while nothing is written. It must not use this object.

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
            with self._lock.reading():
                if self._is_closed:
                    raise InputError("the store is closed")
                if self._is_in_step():
                    return work(self._index, *args, **kwargs)
            with self._writer:
                self._settle()

    def _is_in_step(self) -> bool:
        # Only another process of the family changes records without this object.
        return not self._is_doubtful and not (self._records.is_shared and self._records.state != self._state)

    def changing(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function as the only writer, concurrently with searches.

        Args:
            work: Function that reads, then calls `write`; repeated if another process wrote in between.
            *args: Positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            Result of the function.

        Raises:
            InputError: The store is closed or read-only.
            DataError: Its file was deleted or replaced.
        """
        with self._writer:
            while True:
                if self._is_closed:
                    raise InputError("the store is closed")
                if self._read_only:
                    raise InputError("the store was opened with `read_only=True`, it cannot be changed")
                self._records.require_in_place()
                self._settle()
                try:
                    return work(*args, **kwargs)
                except Overtaken:
                    continue

    def write(
        self,
        *,
        added: Sequence[NewRecord] = (),
        vectors: FloatArray | None = None,
        removed: Sequence[int] = (),
        rewritten: Mapping[int, NewRecord] | None = None,
    ) -> list[str]:
        """Change records and index as the writer, like `Records.write`, and return the ids of the added records."""
        with self._lock.writing():
            self._is_doubtful = True
            rows, ids, state = self._records.write(
                added=added, vectors=vectors, removed=removed, rewritten=rewritten, since=self._state
            )
            if len(removed):
                self._index.remove(np.array(removed, dtype=np.int64))
            if vectors is not None:
                self._index.add(rows, vectors)
            self._state = state
            self._is_doubtful = False
        self._num_unsaved += len(added) + len(removed)
        if not self._builder.suits(self._index):
            self._rebuild()
        self._save_if_due()
        return ids

    def _settle(self) -> None:
        """Repair the index after a failed or foreign change, as the writer."""
        if self._is_in_step():
            return
        state = self._records.state
        if state != self._state and (self._is_doubtful or not self._follow(state)):
            self._rebuild()
        self._is_doubtful = False

    def _follow(self, state: int) -> bool:
        """Apply changes of other processes, as the writer."""
        with self._lock.writing():
            self._is_doubtful = True
            if not self._catch_up(self._index):
                return False
            self._state = state
            return True

    def _rebuild(self) -> None:
        """Rebuild the index from the records, as the writer; searches use the old one meanwhile."""
        state = self._records.state
        index = self._builder.build(self._records)
        with self._lock.writing():
            self._index, self._state = index, state
        self._num_unsaved = len(index)

    def _load(self) -> VectorIndex | None:
        """Read and update the index; None if it has to be rebuilt."""
        if self._path is None or not os.path.lexists(self._path):
            return None
        try:
            with read_index_file(self._path, digests=self._records.index_digests()) as reader:
                if reader.header.get("dim") != self._records.dim:
                    return None
                index = self._builder.load(reader)
        except MissingDependencyError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the records are the truth
            logger.info("an index is built anew: %s", cause(error))
            return None
        if index.dim != self._records.dim or not self._builder.suits(index):
            return None
        return index if self._catch_up(index) else None

    def _catch_up(self, index: VectorIndex) -> bool:
        """Add missing and remove stale rows; False if rebuilding is better."""
        held, wanted = index.rows(), self._records.rows()
        surplus = np.setdiff1d(held, wanted, assume_unique=True)
        missing = np.setdiff1d(wanted, held, assume_unique=True)
        if len(surplus) + len(missing) > len(wanted) // 2:
            return False
        index.remove(surplus)
        try:
            for start in range(0, len(missing), _BATCH_ROWS):
                index.add(*self._records.vectors(missing[start : start + _BATCH_ROWS]))
        except InputError:  # records and index have diverged
            return False
        self._num_unsaved = len(surplus) + len(missing)
        return self._builder.suits(index)

    def save(self) -> None:
        """Write the file as the writer, unless the index is fast to build."""
        if self._path is None or self._read_only:
            return
        try:
            if self._index.is_quick_to_build:
                self._path.unlink(missing_ok=True)
            else:
                self._write_file(self._path)
        except (OSError, DataError) as error:
            # Only the next start is slower.
            logger.warning("the index %s could not be written: %s", listed([str(self._path)]), cause(error))
            return
        self._num_unsaved = 0

    def _write_file(self, path: Path) -> None:
        header = {
            "kind": self._index.kind,
            "dim": self._index.dim,
            "metric": "inner_product",
            "state": self._state,
            "written_by": __version__,
        }
        records = self._records
        with write_index_file(path, header, mode=records.mode, on_written=records.note_index) as writer:
            self._index.save(writer)

    def _save_if_due(self) -> None:
        # Forked children leave the file to the process that opened the store.
        if self._num_unsaved > max(_MAX_UNSAVED, len(self._index) // 4) and os.getpid() == self._process:
            self.save()

    def close(self) -> None:
        """Write the file if it is out of date, and close the records; idempotent."""
        with self._writer:
            if self._is_closed:
                return
            try:
                if self._num_unsaved and not self._is_doubtful and os.getpid() == self._process:
                    self._save_at_end()
            finally:
                with self._lock.writing():
                    self._is_closed = True
                    self._records.close()

    def _save_at_end(self) -> None:
        try:
            self._records.require_in_place()
            if self._records.state == self._state:
                self.save()
        except DataError as error:
            logger.warning("an index was not written: %s", error)
