"""Validating reader of FAISS files, which passes only checked bytes to FAISS.

`faiss.read_index` allocates whatever a field claims, and lists of the kind `ilod` name a file that it opens and maps
for writing; flags and checks vary by version. So each field is checked first: one of three index kinds, with known
dimension and number of vectors, whose links and counts stay inside it.

The format is that of `index_write.cpp`: little-endian numbers; a vector is its length and its items.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gliclass_rerank.errors import DataError, shown

_BLOCK: Final = 1 << 20
_NODES: Final = 8192
_INNER_PRODUCT: Final = 0
_OF_NO_USE: Final = 1 << 20
_CENTROIDS: Final = 256
# FAISS has tables for every level with a probability above 1e-9.
_MAX_LEVELS: Final = 32
_MAX_WIDTH: Final = 1 << 16

Bytes = Generator[bytes, None, None]
Array = NDArray[Any]  # Any: arrays of several dtypes


@dataclass(frozen=True)
class Expected:
    """Expected properties of an index.

    Attributes:
        kind: `flat`, `hnsw` or `ivf_pq`.
        dim: Dimension of the vectors.
        num_vectors: Number of vectors.
        num_links: Links per node on a graph's upper levels; twice as many at the bottom.
        code_bytes: Bytes of a compressed vector.
    """

    kind: str
    dim: int
    num_vectors: int
    num_links: int
    code_bytes: int


class CheckedStream:
    """Stream of checked bytes for `faiss.PyCallbackIOReader`.

    Args:
        part: Output of FAISS.
        size: Its size in bytes.
        expected: Expected index.
    """

    def __init__(self, part: IO[bytes], size: int, expected: Expected) -> None:
        self._approved = _KINDS[expected.kind](_Source(part, size), expected)
        self._waiting = b""

    def read(self, count: int) -> bytes:
        """Read the next bytes, `count` of them or all that are left; a `DataError` if the index is not as expected."""
        parts = [self._waiting]
        num_bytes = len(self._waiting)
        while num_bytes < count:
            approved = next(self._approved, None)
            if approved is None:
                break
            parts.append(approved)
            num_bytes += len(approved)
        given = b"".join(parts)
        self._waiting = given[count:]
        return given[:count]

    def finish(self) -> None:
        """Check that everything was read; a `DataError` if bytes follow the index."""
        if self._waiting or next(self._approved, None) is not None:
            raise _wrong("FAISS left something unread")


class _Source:
    """Unchecked bytes."""

    def __init__(self, part: IO[bytes], size: int) -> None:
        self._part = part
        self.left = size

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _wrong(f"{count} bytes are said to follow, there are {self.left}")
        taken = self._part.read(count)
        if len(taken) != count:
            raise _wrong(f"it ends {count - len(taken)} bytes early")
        self.left -= count
        return taken

    def blocks(self, count: int) -> Iterator[bytes]:
        while count:
            size = min(count, _BLOCK)
            yield self.take(size)
            count -= size


def _flat(source: _Source, expected: Expected) -> Bytes:
    yield from _flat_index(source, expected.dim, expected.num_vectors)
    _require_end(source)


def _hnsw(source: _Source, expected: Expected) -> Bytes:
    yield _tag(source, b"IHNf")
    yield from _header(source, expected.dim, expected.num_vectors)
    yield from _graph(source, expected)
    yield from _flat_index(source, expected.dim, expected.num_vectors)
    _require_end(source)


def _ivf_pq(source: _Source, expected: Expected) -> Bytes:
    yield _tag(source, b"IwPQ")
    yield from _header(source, expected.dim, expected.num_vectors)
    field, (num_lists, num_probes) = _numbers(source, "<u8", 2)
    _require(0 < num_probes <= num_lists <= source.left // (4 * expected.dim), "the number of its lists")
    yield field
    yield from _flat_index(source, expected.dim, num_lists)  # their centroids
    yield _exactly(source, bytes(9), "a map of its vectors")  # none, of length 0
    yield _flag(source)  # codes are residuals to the centroid
    yield _field(source, "<u8", expected.code_bytes, "the bytes of a code")
    yield from _quantizer(source, expected)
    yield from _lists(source, num_lists, expected)
    _require_end(source)


def _quantizer(source: _Source, expected: Expected) -> Bytes:
    for number in (expected.dim, expected.code_bytes, 8):
        yield _field(source, "<u8", number, "the shape of its codebooks")
    yield from _floats(source, _CENTROIDS * expected.dim)


def _lists(source: _Source, num_lists: int, expected: Expected) -> Bytes:
    yield _tag(source, b"ilar")
    yield _field(source, "<u8", num_lists, "the number of its lists")
    yield _field(source, "<u8", expected.code_bytes, "the bytes of a code")
    tag, sizes = source.take(4), np.zeros(num_lists, dtype=np.int64)
    yield tag
    if tag == b"full":
        length, values = _length(source, num_lists, "u8"), _array(source, num_lists, "<u8")
        sizes[:] = values
    elif tag == b"sprs":
        length, (count,) = _numbers(source, "<u8", 1)
        _require(count % 2 == 0 and count <= 2 * num_lists, "the number of its lists that are not empty")
        values = _array(source, count, "<u8")
        numbers = values[::2]
        _require(bool(np.all(numbers < num_lists)) and len(np.unique(numbers)) == len(numbers), "the numbers of lists")
        sizes[numbers.astype(np.int64)] = values[1::2]
    else:
        raise _wrong(f"lists of the kind {shown(tag)} are not read")
    _require(bool(np.all(values <= max(num_lists, expected.num_vectors))), "the lengths of its lists")
    _require(int(sizes.sum()) == expected.num_vectors, "the lengths of its lists")
    yield length
    yield values.tobytes()
    is_there = np.zeros(expected.num_vectors, dtype=np.bool_)
    for size in sizes[sizes > 0].tolist():
        yield from source.blocks(size * expected.code_bytes)
        numbers = _array(source, size, "<i8")
        _require(bool(np.all((numbers >= 0) & (numbers < expected.num_vectors))), "the numbers of its vectors")
        is_there[numbers] = True
        yield numbers.tobytes()
    _require(bool(is_there.all()), "the numbers of its vectors")


def _graph(source: _Source, expected: Expected) -> Bytes:
    field, (num_levels,) = _numbers(source, "<u8", 1)
    _require(0 < num_levels <= _MAX_LEVELS, "the number of its levels")
    chances = _array(source, num_levels, "<f8")
    _require(bool(np.all((chances >= 0) & (chances <= 1))), "the chances of its levels")
    yield field
    yield chances.tobytes()
    # Offset of each level's links among those of a node.
    starts = expected.num_links * np.array([0, *range(2, num_levels + 2)], dtype="<i4")
    yield _length(source, len(starts), "i4")
    yield _exactly(source, starts.tobytes(), "the number of links")
    yield _length(source, expected.num_vectors, "i4")
    levels = _array(source, expected.num_vectors, "<i4")
    _require(bool(np.all((levels >= 1) & (levels <= num_levels))), "the levels of its nodes")
    yield levels.tobytes()
    offsets = np.concatenate([[0], np.cumsum(starts[levels], dtype=np.int64)]).astype("<u8")
    yield _length(source, len(offsets), "u8")
    for start in range(0, len(offsets), _BLOCK // 8):
        yield _exactly(source, offsets[start : start + _BLOCK // 8].tobytes(), "where the links of a node begin")
    yield _length(source, int(offsets[-1]), "i4")
    yield from _links(source, levels, offsets.astype(np.int64), starts)
    yield from _entry(source, levels)


def _links(source: _Source, levels: Array, offsets: Array, starts: Array) -> Bytes:
    for first in range(0, len(levels), _NODES):
        nodes = np.arange(first, min(first + _NODES, len(levels)))
        begins = offsets[nodes]
        links = _array(source, int(offsets[nodes[-1] + 1] - begins[0]), "<i4")
        _require(bool(np.all((links >= -1) & (links < len(levels)))), "the links of its nodes")
        # A node has no links above its own levels, so nothing may lead to it there.
        is_upper = levels[nodes] > 1
        for node, begin in zip(nodes[is_upper].tolist(), begins[is_upper].tolist(), strict=True):
            for level in range(1, int(levels[node])):
                there = links[begin - begins[0] + starts[level] : begin - begins[0] + starts[level + 1]]
                _require(bool(np.all(levels[there[there >= 0]] > level)), "the links of its nodes")
        yield links.tobytes()


def _entry(source: _Source, levels: Array) -> Bytes:
    """Entry node, highest level, and search widths."""
    field, (entry, highest, *widths, _) = _numbers(source, "<i4", 5)
    if len(levels):
        is_right = 0 <= entry < len(levels) and highest == levels[entry] - 1 == levels.max() - 1
    else:
        is_right = entry == highest == -1
    _require(is_right, "where a search begins")
    _require(all(0 < width <= _MAX_WIDTH for width in widths), "the widths of searches")
    yield field


def _flat_index(source: _Source, dim: int, num_vectors: int) -> Bytes:
    yield _tag(source, b"IxFI")
    yield from _header(source, dim, num_vectors)
    yield from _floats(source, dim * num_vectors)


def _header(source: _Source, dim: int, num_vectors: int) -> Bytes:
    yield _field(source, "<i4", dim, "its dimension")
    yield _field(source, "<i8", num_vectors, "the number of its vectors")
    for _ in range(2):
        yield _field(source, "<i8", _OF_NO_USE, "its header")
    yield _exactly(source, b"\x01", "whether it is trained")
    yield _field(source, "<i4", _INNER_PRODUCT, "its metric")


def _floats(source: _Source, count: int) -> Bytes:
    yield _length(source, count, "f4")
    for block in source.blocks(4 * count):
        _require(bool(np.isfinite(np.frombuffer(block, dtype="<f4")).all()), "its numbers")
        yield block


def _length(source: _Source, count: int, dtype: str) -> bytes:
    _require(count * np.dtype(dtype).itemsize <= source.left, "its length")
    return _field(source, "<u8", count, "the length of a list")


def _numbers(source: _Source, dtype: DTypeLike, count: int) -> tuple[bytes, list[int]]:
    values = _array(source, count, dtype)
    return values.tobytes(), values.tolist()


def _array(source: _Source, count: int, dtype: DTypeLike) -> Array:
    kind: np.dtype[Any] = np.dtype(dtype)
    return np.frombuffer(source.take(count * kind.itemsize), dtype=kind)


def _field(source: _Source, dtype: DTypeLike, wanted: int, what: str) -> bytes:
    return _exactly(source, np.array(wanted, dtype=dtype).tobytes(), what)


def _tag(source: _Source, tag: bytes) -> bytes:
    found = source.take(len(tag))
    if found != tag:
        raise _wrong(f"a part must be of the kind {shown(tag)}, got {shown(found)}")
    return found


def _flag(source: _Source) -> bytes:
    flag = source.take(1)
    _require(flag in (b"\x00", b"\x01"), "a mark")
    return flag


def _exactly(source: _Source, wanted: bytes, what: str) -> bytes:
    found = source.take(len(wanted))
    _require(found == wanted, what)
    return found


def _require_end(source: _Source) -> None:
    _require(source.left == 0, "its length")


def _require(is_right: bool, what: str) -> None:
    if not is_right:
        raise _wrong(f"{what} cannot be right")


def _wrong(reason: str) -> DataError:
    return DataError(f"it is no index that this library wrote: {reason}")


_KINDS: Final[dict[str, Callable[[_Source, Expected], Bytes]]] = {"flat": _flat, "hnsw": _hnsw, "ivf_pq": _ivf_pq}
