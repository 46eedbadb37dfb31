"""Reading, writing and updating of an index beside its records."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

import numpy as np

from gliclass_rerank._version import __version__
from gliclass_rerank.errors import InputError, MissingDependencyError, cause
from gliclass_rerank.examples.index import IndexBuilder, VectorIndex
from gliclass_rerank.examples.index_file import read_index_file, write_index_file
from gliclass_rerank.examples.records import Records
from gliclass_rerank.examples.rows import Position

_BATCH_ROWS: Final = 4096

logger = logging.getLogger(__name__)


def load(path: Path | None, builder: IndexBuilder, records: Records) -> tuple[VectorIndex, int] | None:
    """Read an index file and bring it up to date.

    Args:
        path: Index file; None for none.
        builder: Builder of the wanted kind of index.
        records: Records of the store.

    Returns:
        Index, and how many rows differed from the file; None if the index has to be rebuilt.

    Raises:
        MissingDependencyError: The backend's package is not installed.
    """
    if path is None or not os.path.lexists(path):
        return None
    try:
        with read_index_file(path, digests=records.index_digests()) as reader:
            if reader.header.get("dim") != records.dim:
                return None
            index = builder.load(reader)
    except MissingDependencyError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the records are the truth
        logger.info("an index is built anew: %s", cause(error))
        return None
    if index.dim != records.dim or index.last_row > records.position().last_row or not builder.suits(index):
        return None
    num_changed = catch_up(index, records)
    return None if num_changed is None or not builder.suits(index) else (index, num_changed)


def write_file(path: Path, index: VectorIndex, position: Position, mode: int) -> str:
    """Write an index file atomically.

    Args:
        path: Target.
        index: Index.
        position: Position of the records that it indexes.
        mode: File permissions.

    Returns:
        Digest of the file.
    """
    header = {
        "kind": index.kind,
        "dim": index.dim,
        "metric": "inner_product",
        "state": position.state,
        "written_by": __version__,
    }
    digests: list[str] = []
    with write_index_file(path, header, mode=mode, on_written=digests.append) as writer:
        index.save(writer)
    return digests[0]


def catch_up(index: VectorIndex, records: Records) -> int | None:
    """Add missing and remove stale rows by comparing all row numbers.

    Args:
        index: Index of any state of the records.
        records: Records of the store.

    Returns:
        Number of changed rows; None if rebuilding is better.
    """
    held, wanted = index.rows(), records.rows()
    surplus = np.setdiff1d(held, wanted, assume_unique=True)
    missing = np.setdiff1d(wanted, held, assume_unique=True)
    if len(surplus) + len(missing) > len(wanted) // 2:
        return None
    index.remove(surplus)
    try:
        for start in range(0, len(missing), _BATCH_ROWS):
            index.add(*records.vectors(missing[start : start + _BATCH_ROWS]))
    except InputError:  # records and index have diverged
        return None
    return len(surplus) + len(missing)


def follow(index: VectorIndex, records: Records, position: Position) -> int | None:
    """Apply the changes since a position, whose cost does not depend on the size of the store.

    Args:
        index: Index of the records at that position.
        records: Records of the store.
        position: Position of the index.

    Returns:
        Number of changed rows; None if the history does not reach back.
    """
    removed = records.removed_since(position)
    if removed is None:
        return None
    num_changed = index.remove(removed)
    try:
        for rows, vectors in records.chunks(after=index.last_row):
            index.add(rows, vectors)
            num_changed += len(rows)
    except InputError:  # records and index have diverged
        return None
    return num_changed
