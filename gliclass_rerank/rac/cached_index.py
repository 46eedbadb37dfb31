"""Keeps an index in step with the records, in memory and on the disk.

A change is written to the records first, in one transaction, then to the index in memory. Should the second half fail,
whoever comes next builds the index anew before using it. The index' file is written when the store is closed, and now
and then before; it names the state of the records that it belongs to. When a store is opened and its index is of
another state, row numbers tell what it lacks and what it has too much; if it is broken or not there, it is built.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import numpy as np

from gliclass_rerank._version import __version__
from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.rac.index import FloatArray, IndexBuilder, VectorIndex
from gliclass_rerank.rac.index_file import read_index_file, write_index_file
from gliclass_rerank.rac.locks import SharedLock
from gliclass_rerank.rac.records import NewRecord, Records

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
                if not self._is_doubtful:
                    return work(self._index, *args, **kwargs)
            with self._writer:
                self._settle()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the writer; others that want to write wait, searches do not.

        Raises:
            InputError: The store is closed or read only.
        """
        with self._writer:
            if self._is_closed:
                raise InputError("the store is closed")
            if self._read_only:
                raise InputError("the store was opened with `read_only=True`, it cannot be changed")
            self._settle()
            yield

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
            rows, ids, state = self._records.write(added=added, vectors=vectors, removed=removed, rewritten=rewritten)
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
        """Put the index in order after a change that failed half way. The caller is the writer."""
        if not self._is_doubtful:
            return
        if self._records.state != self._state:
            self._rebuild()
        self._is_doubtful = False

    def _rebuild(self) -> None:
        """Build the index from the records; searches go on with the old one meanwhile. The caller is the writer."""
        state = self._records.state
        index = self._builder.build(self._records)
        with self._lock.writing():
            self._index, self._state = index, state
        self._num_unsaved = len(index)

    def _load(self) -> VectorIndex | None:
        """Read the index and bring it up to date; None if it has to be built."""
        if self._path is None or not self._path.exists():
            return None
        try:
            with read_index_file(self._path) as reader:
                index, state = self._builder.load(reader), reader.header.get("state")
        except DataError as error:
            logger.info("an index is built anew: %s", error)
            return None
        if index.dim != self._records.dim or not self._builder.suits(index):
            return None
        return index if state == self._state or self._catch_up(index) else None

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
        if self._index.is_quick_to_build:
            self._path.unlink(missing_ok=True)
        else:
            header = {
                "kind": self._index.kind,
                "dim": self._index.dim,
                "metric": "inner_product",
                "state": self._state,
                "written_by": __version__,
            }
            try:
                with write_index_file(self._path, header) as writer:
                    self._index.save(writer)
            except OSError as error:
                # Nothing is lost; the next start takes longer.
                logger.warning("the index `%s` could not be written: %s", self._path, error)
                return
        self._num_unsaved = 0

    def _save_if_due(self) -> None:
        if self._num_unsaved > max(_MAX_UNSAVED, len(self._index) // 4):
            self.save()

    def close(self) -> None:
        """Write the file if it lacks something, and close the records; a second call does nothing."""
        with self._writer:
            if self._is_closed:
                return
            try:
                if self._num_unsaved and not self._is_doubtful and self._records.state == self._state:
                    self.save()
            finally:
                with self._lock.writing():
                    self._is_closed = True
                    self._records.close()
