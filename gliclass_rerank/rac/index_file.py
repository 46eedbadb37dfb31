"""The file an index is kept in: a zip archive of arrays and streams, so that every part has a checksum.

The file appears complete or not at all. It says of which state of the records it is the index; whoever reads it decides
what that is worth.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import DataError

_FORMAT: Final = 1
_HEADER: Final = "header.json"
# A fixed date: the file depends on what is in it and on nothing else.
_DATE: Final = (1980, 1, 1, 0, 0, 0)


class IndexWriter:
    """Writes the parts of an index.

    Args:
        archive: Where to.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def array(self, name: str, values: NDArray[Any]) -> None:  # Any: arrays of several dtypes
        """Write an array.

        Args:
            name: Under which it is found again.
            values: The array.
        """
        with self.stream(f"{name}.npy") as part:
            np.lib.format.write_array(part, values, allow_pickle=False)

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Open a part for writing.

        Args:
            name: Under which it is found again.

        Yields:
            A handle; one at a time.
        """
        with self._archive.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as part:
            yield part


class IndexReader:
    """Reads the parts of an index.

    Args:
        archive: Where from.
        header: What `write_index_file` was given.

    Attributes:
        header: The settings of the index.
    """

    def __init__(self, archive: zipfile.ZipFile, header: Mapping[str, Any]) -> None:  # Any: JSON
        self._archive = archive
        self.header = header

    def array(self, name: str) -> NDArray[Any]:  # Any: arrays of several dtypes
        """Read an array.

        Args:
            name: What it was written under.

        Returns:
            The array.

        Raises:
            DataError: It is not there, or no array.
        """
        try:
            with self.stream(f"{name}.npy") as part:
                values: NDArray[Any] = np.lib.format.read_array(part, allow_pickle=False)
                return values
        except ValueError as error:
            raise DataError(f"the array `{name}` of an index cannot be read: {error}") from error

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Open a part for reading.

        Args:
            name: What it was written under.

        Yields:
            A handle.

        Raises:
            DataError: It is not there.
        """
        try:
            part = self._archive.open(name)
        except KeyError:
            raise DataError(f"an index lacks the part `{name}`") from None
        with part:
            yield part


@contextmanager
def write_index_file(path: Path, header: Mapping[str, Any]) -> Iterator[IndexWriter]:  # Any: JSON
    """Write an index; it takes the place of the old one when the block is left without an error.

    Args:
        path: The file. Beside it lies, for the time being, a file of the same name with `.partial` at the end.
        header: Settings, as JSON values.

    Yields:
        The writer of its parts.
    """
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as handle:
        with zipfile.ZipFile(handle, "w") as archive:
            archive.writestr(zipfile.ZipInfo(_HEADER, _DATE), json.dumps({"format": _FORMAT, **header}, sort_keys=True))
            yield IndexWriter(archive)
        handle.flush()
        os.fsync(handle.fileno())  # else a power failure could leave the new name without its contents
    os.replace(partial, path)


@contextmanager
def read_index_file(path: Path) -> Iterator[IndexReader]:
    """Open an index for reading. All checksums are compared first: FAISS trusts the numbers it reads.

    Args:
        path: The file.

    Yields:
        The reader of its parts.

    Raises:
        DataError: There is no such file, it is broken or has another format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken is not None:
                raise DataError(f"the index `{path}` is broken in the part `{broken}`")
            header = json.loads(archive.read(_HEADER))
            if not isinstance(header, dict) or header.get("format") != _FORMAT:
                raise DataError(f"the index `{path}` has another format than {_FORMAT}")
            yield IndexReader(archive, header)
    except (OSError, EOFError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the index `{path}` cannot be read: {error}") from error
