"""Keeps an index in step with the records, in memory and on the disk.

A change is written to the records first, in one transaction, then to the index in memory. Should the second half fail,
whoever comes next builds the index anew before using it. The index' file is written when the store is closed, and now
and then before; the records keep its digest. When a store is opened, row numbers tell what its index lacks and what
it has too much; if it is broken, another one than was written, or not there, it is built.
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

# The file is written again when it lacks so many changes, or a quarter of all vectors.
_MAX_UNSAVED: Final = 10_000
_BATCH_ROWS: Final = 4096

logger = logging.getLogger(__name__)


class CachedIndex:
    """The index of some records. Searches may run at once in several threads; writers take turns.

    Args:
        records: The records; from now on they are changed through this object only.
        builder: Makes the index.
        path: Its file, which need not exist; None for none.
        read_only: Leave the file as it is.

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
        # Set while a change is under way, and left set by one that failed half way.
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
        """Nothing to prepare: the records keep this object from being out of step."""

    def after_fork_in_parent(self) -> None:
        """Nothing to undo."""

    def after_fork_in_child(self) -> None:
        """Renew the locks. What another thread was changing is found out by the records' state."""
        self._writer = threading.Lock()
        self._lock = SharedLock()
        self._is_doubtful = True

    def using(self, work: Callable[Concatenate[VectorIndex, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function while nothing is written. It must not use this object.

        Args:
            work: Given the index.
            *args: What else it is given.
            **kwargs: The same by name.

        Returns:
            What it returns.

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
        # Only another process of the family changes records behind this object's back.
        return not self._is_doubtful and not (self._records.is_shared and self._records.state != self._state)

    def changing(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function as the writer; others that want to write wait, searches do not.

        Args:
            work: Reads what it needs, then calls `write`; called again if another process wrote in between.
            *args: What it is given.
            **kwargs: The same by name.

        Returns:
            What it returns.

        Raises:
            InputError: The store is closed or read only.
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
        """Change records and index; the caller is the writer.

        Args:
            added: See `Records.write`; so are the others.
            vectors: Vectors of what is added.
            removed: Row numbers to delete.
            rewritten: New contents of rows.

        Returns:
            The ids of what was added.
        """
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
        """Put the index in order after a change that failed half way, or by others. The caller is the writer."""
        if self._is_in_step():
            return
        state = self._records.state
        if state != self._state and (self._is_doubtful or not self._follow(state)):
            self._rebuild()
        self._is_doubtful = False

    def _follow(self, state: int) -> bool:
        """Catch up with others. The caller is the writer."""
        with self._lock.writing():
            self._is_doubtful = True
            if not self._catch_up(self._index):
                return False
            self._state = state
            return True

    def _rebuild(self) -> None:
        """Build the index from the records; searches go on with the old one meanwhile. The caller is the writer."""
        state = self._records.state
        index = self._builder.build(self._records)
        with self._lock.writing():
            self._index, self._state = index, state
        self._num_unsaved = len(index)

    def _load(self) -> VectorIndex | None:
        """Read the index and bring it up to date; None if it has to be built."""
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
        """Add what an index lacks and remove what it has too much; False if building it is the better way."""
        held, wanted = index.rows(), self._records.rows()
        surplus = np.setdiff1d(held, wanted, assume_unique=True)
        missing = np.setdiff1d(wanted, held, assume_unique=True)
        if len(surplus) + len(missing) > len(wanted) // 2:
            return False
        index.remove(surplus)
        try:
            for start in range(0, len(missing), _BATCH_ROWS):
                index.add(*self._records.vectors(missing[start : start + _BATCH_ROWS]))
        except InputError:  # it has later rows than those it lacks: records and index went different ways
            return False
        self._num_unsaved = len(surplus) + len(missing)
        return self._builder.suits(index)

    def save(self) -> None:
        """Write the file; the caller is the writer. An index that is quick to build is not written."""
        if self._path is None or self._read_only:
            return
        try:
            if self._index.is_quick_to_build:
                self._path.unlink(missing_ok=True)
            else:
                self._write_file(self._path)
        except (OSError, DataError) as error:
            # Nothing is lost; the next start takes longer.
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
        # Children of a fork leave the file to the process that opened the store.
        if self._num_unsaved > max(_MAX_UNSAVED, len(self._index) // 4) and os.getpid() == self._process:
            self.save()

    def close(self) -> None:
        """Write the file if it lacks something, and close the records; a second call does nothing."""
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
