"""The file an index is kept in: a zip archive of arrays and streams, so that every part has a checksum.

The file appears complete or not at all. It says of which state of the records it is the index; whoever reads it decides
what that is worth.
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
from typing import IO, Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError, shown
from gliclass_rerank.examples.private_files import PRIVATE, create_private, open_regular

_FORMAT: Final = 1
_HEADER: Final = "header.json"
_BLOCK: Final = 1 << 20
# A fixed date: the file depends on what is in it and on nothing else.
_DATE: Final = (1980, 1, 1, 0, 0, 0)
# What Python's modules raise on a file that is not what they expect.
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
        archive: Where from; its parts are not compressed, so that none is larger than the file.
        header: What `write_index_file` was given.

    Attributes:
        header: The settings of the index.
    """

    def __init__(self, archive: zipfile.ZipFile, header: Mapping[str, Any]) -> None:  # Any: JSON
        self._archive = archive
        self.header = header

    def array(self, name: str, dtype: DTypeLike, num_axes: int = 1) -> NDArray[Any]:  # Any: arrays of several dtypes
        """Read an array. What its header claims is compared with the part's size before any memory is taken.

        Args:
            name: What it was written under.
            dtype: Type of its numbers.
            num_axes: Its number of axes.

        Returns:
            The array.

        Raises:
            DataError: It is not there, or not such an array.
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
        """Bytes of a part.

        Args:
            name: What it was written under.

        Returns:
            Their number.

        Raises:
            DataError: It is not there.
        """
        try:
            return self._archive.getinfo(name).file_size
        except KeyError:
            raise DataError(f"an index lacks the part `{name}`") from None

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
def write_index_file(
    path: Path,
    header: Mapping[str, Any],  # Any: JSON
    *,
    mode: int = PRIVATE,
    on_written: Callable[[str], None] | None = None,
) -> Iterator[IndexWriter]:
    """Write an index; it takes the place of the old one when the block is left without an error.

    Links are replaced, never followed.

    Args:
        path: The file. Beside it lies, for the time being, `partial_path(path)`.
        header: Settings, as JSON values.
        mode: Who may do what with the file.
        on_written: Told the file's digest before it is put in place.

    Yields:
        The writer of its parts.
    """
    partial = partial_path(path)
    partial.unlink(missing_ok=True)
    create_private(partial, mode)
    try:
        with partial.open("r+b") as handle:
            with zipfile.ZipFile(handle, "w") as archive:
                settings = json.dumps({"format": _FORMAT, **header}, sort_keys=True)
                archive.writestr(zipfile.ZipInfo(_HEADER, _DATE), settings)
                yield IndexWriter(archive)
            handle.flush()
            os.fsync(handle.fileno())  # else a power failure could leave the new name without its contents
            if on_written is not None:
                on_written(_digest(handle))
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _digest(handle: IO[bytes]) -> str:
    digest = hashlib.sha256()
    handle.seek(0)
    while block := handle.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def partial_path(path: Path) -> Path:
    """Where this process writes an index."""
    return path.with_name(f"{path.name}.{os.getpid()}.partial")


@contextmanager
def read_index_file(path: Path, *, digests: Collection[str] | None = None) -> Iterator[IndexReader]:
    """Open an index for reading. All checksums are compared first: a broken file is told from a forged one.

    Args:
        path: The file; a link is refused.
        digests: What its digest may be; None for anything.

    Yields:
        The reader of its parts.

    Raises:
        DataError: There is no such file, it is broken or has another format.
    """
    try:
        with open_regular(path) as handle, zipfile.ZipFile(handle) as archive:
            if digests is not None and _digest(handle) not in digests:
                raise DataError(f"the index `{named(path)}` is not the one that was written last")
            size = os.fstat(handle.fileno()).st_size
            parts = archive.infolist()
            # A compressed part could be larger than any memory.
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
