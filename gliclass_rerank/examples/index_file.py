"""Index file format: a zip archive of arrays and streams, with a checksum for each part.

The file appears atomically, and names the records' state that it indexes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import IO, Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gliclass_rerank.checks import named
from gliclass_rerank.database.private_files import PRIVATE, create_private, open_regular
from gliclass_rerank.errors import DataError, shown
from gliclass_rerank.files.locks import hold

_FORMAT: Final = 1
_HEADER: Final = "header.json"
_BLOCK: Final = 1 << 20
# A fixed date makes the file depend on its content alone.
_DATE: Final = (1980, 1, 1, 0, 0, 0)
# Exceptions of Python's modules on malformed files.
_UNREADABLE: Final = (
    OSError,
    EOFError,
    LookupError,
    ValueError,
    RuntimeError,
    OverflowError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


class IndexWriter:
    """Writer of an index's parts.

    Args:
        archive: Open archive.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def array(self, name: str, values: NDArray[Any]) -> None:  # Any: arrays of several dtypes
        """Write an array under a name."""
        with self.stream(f"{name}.npy") as part:
            np.lib.format.write_array(part, values, allow_pickle=False)

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Open a named part for writing, one at a time."""
        with self._archive.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as part:
            yield part


class IndexReader:
    """Reader of an index's parts.

    Args:
        archive: Open archive with uncompressed parts, so that none is larger than the file.
        header: Settings given to `write_index_file`.

    Attributes:
        header: Settings of the index.
    """

    def __init__(self, archive: zipfile.ZipFile, header: Mapping[str, Any]) -> None:  # Any: JSON
        self._archive = archive
        self.header = header

    def array(self, name: str, dtype: DTypeLike, num_axes: int = 1) -> NDArray[Any]:  # Any: arrays of several dtypes
        """Read an array, checking its header against the part's size before allocating memory.

        Args:
            name: Name of the part.
            dtype: Required type.
            num_axes: Required number of axes.

        Returns:
            The array.

        Raises:
            DataError: The part is missing, or not such an array.
        """
        wanted: np.dtype[Any] = np.dtype(dtype)
        with self.stream(f"{name}.npy") as part:
            try:
                version = np.lib.format.read_magic(part)
                if version != (1, 0):
                    raise ValueError(f"its version is {version}")
                shape, is_fortran, found = np.lib.format.read_array_header_1_0(part)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
                raise DataError(f"the array `{name}` of an index cannot be read: {shown(str(error))}") from error
            if found != wanted or len(shape) != num_axes or is_fortran or min(shape, default=0) < 0:
                raise DataError(f"the array `{name}` of an index must be {wanted} with {num_axes} axes, got {found}")
            num_bytes = math.prod(shape) * wanted.itemsize
            if num_bytes != self.size(f"{name}.npy") - part.tell():
                raise DataError(f"the array `{name}` of an index must hold {num_bytes} bytes")
            values = np.frombuffer(bytearray(part.read(num_bytes)), dtype=wanted)
        if values.nbytes != num_bytes:
            raise DataError(f"the array `{name}` of an index must hold {num_bytes} bytes, got {values.nbytes}")
        return values.reshape(shape)

    def size(self, name: str) -> int:
        """Size of a part in bytes; a `DataError` if it is missing."""
        try:
            return self._archive.getinfo(name).file_size
        except KeyError:
            raise DataError(f"an index lacks the part `{name}`") from None

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Open a named part for reading; a `DataError` if it is missing."""
        try:
            part = self._archive.open(name)
        except KeyError:
            raise DataError(f"an index lacks the part `{name}`") from None
        with part:
            yield part


@contextmanager
def write_index_file(
    path: Path,
    header: Mapping[str, Any],  # Any: JSON
    *,
    mode: int = PRIVATE,
    on_written: Callable[[str], None] | None = None,
) -> Iterator[IndexWriter]:
    """Write an index, which replaces the old one if the block succeeds. Links are replaced, never followed.

    Args:
        path: Target; written first to `partial_path(path)`.
        header: Settings, as JSON values.
        mode: File permissions.
        on_written: Callback with the file's digest before it is put in place.

    Yields:
        Writer of its parts.
    """
    partial, lock = _new_partial(path, mode)
    try:
        with partial.open("r+b") as handle:
            with zipfile.ZipFile(handle, "w") as archive:
                settings = json.dumps({"format": _FORMAT, **header}, sort_keys=True)
                archive.writestr(zipfile.ZipInfo(_HEADER, _DATE), settings)
                yield IndexWriter(archive)
            handle.flush()
            os.fsync(handle.fileno())  # else a power failure could keep the new name without its contents
            if on_written is not None:
                on_written(_digest(handle))
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(lock)


def _new_partial(path: Path, mode: int) -> tuple[Path, int]:
    partial = partial_path(path)
    while True:
        partial.unlink(missing_ok=True)
        create_private(partial, mode)
        if (lock := hold(partial)) is not None:
            return partial, lock


def _digest(handle: IO[bytes]) -> str:
    digest = hashlib.sha256()
    handle.seek(0)
    while block := handle.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def partial_path(path: Path) -> Path:
    """Temporary path of an index written by this thread."""
    return path.with_name(f"{path.name}.{os.getpid()}-{get_ident()}.partial")


@contextmanager
def read_index_file(path: Path, *, digests: Collection[str] | None = None) -> Iterator[IndexReader]:
    """Open an index, verifying all checksums first: damaged files differ from forged ones.

    Args:
        path: Index file; a link is refused.
        digests: Accepted digests; None for any.

    Yields:
        Reader of its parts.

    Raises:
        DataError: The file is missing, damaged or of another format.
    """
    try:
        with open_regular(path) as handle, zipfile.ZipFile(handle) as archive:
            if digests is not None and _digest(handle) not in digests:
                raise DataError(f"the index `{named(path)}` is not the one that was written last")
            size = os.fstat(handle.fileno()).st_size
            parts = archive.infolist()
            # A compressed part could exceed any memory.
            if any(part.compress_type != zipfile.ZIP_STORED or part.file_size > size for part in parts):
                raise DataError(f"the index `{named(path)}` has parts that this library does not write")
            broken = archive.testzip()
            if broken is not None:
                raise DataError(f"the index `{named(path)}` is broken in the part {shown(broken)}")
            header = json.loads(archive.read(_HEADER))
            if not isinstance(header, dict) or header.get("format") != _FORMAT:
                raise DataError(f"the index `{named(path)}` has another format than {_FORMAT}")
            yield IndexReader(archive, header)
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(f"the index `{named(path)}` cannot be read: {shown(str(error))}") from error
