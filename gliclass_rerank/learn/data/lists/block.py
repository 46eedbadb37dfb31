"""Block of lists as arrays, and its file format."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from gliclass_rerank.errors import DataError
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.learn.data.lists.forms import Form, TextRef
from gliclass_rerank.learn.data.lists.kinds import KINDS

UNJUDGED: Final = -1
# In numpy's letters; unsigned integers unless noted.
_TYPES: Final = {"source_names": "U", "source_digests": "U", "grade": "i"}


@dataclass(frozen=True)
class Block:
    """Lists and the names of their texts, numbered by first use.

    Attributes:
        source_names: Source files of the texts.
        source_digests: Digest per file, which detects changed records.
        text_source: UInt8Array [num_texts]. Position in `source_names`.
        text_index: UInt32Array [num_texts]. Record number.
        text_form: UInt8Array [num_texts].
        text_is_query: UInt8Array [num_texts]. 0 or 1.
        kind: UInt8Array [num_lists]. Position in `KINDS`.
        query: UInt16Array or UInt32Array [num_lists]. Text number.
        start: UInt32Array [num_lists + 1]. First candidate of each list, and the end of the last one.
        candidate: UInt16Array or UInt32Array [num_slots]. Text number.
        grade: Int8Array [num_slots]. `UNJUDGED` if unknown.
    """

    source_names: NDArray[np.str_]
    source_digests: NDArray[np.str_]
    text_source: NDArray[np.uint8]
    text_index: NDArray[np.uint32]
    text_form: NDArray[np.uint8]
    text_is_query: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    query: NDArray[np.unsignedinteger[Any]]
    start: NDArray[np.uint32]
    candidate: NDArray[np.unsignedinteger[Any]]
    grade: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def num_texts(self) -> int:
        """Distinct texts; one used both as query and passage counts twice."""
        return len(self.text_source)

    def slots(self, number: int) -> slice:
        """Range of a list's candidates."""
        return slice(int(self.start[number]), int(self.start[number + 1]))

    def refs(self) -> list[TextRef]:
        """Names of all texts."""
        return [
            TextRef(str(self.source_names[source]), int(index), Form(form), bool(is_query))
            for source, index, form, is_query in zip(
                self.text_source, self.text_index, self.text_form, self.text_is_query, strict=True
            )
        ]


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays by name, without Python objects, as a `.npz` compressed better than numpy's; atomic."""
    with atomic_file(path) as staging, zipfile.ZipFile(staging, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")  # a fixed date makes equal arrays equal files
            info.compress_type = zipfile.ZIP_LZMA
            with archive.open(info, "w", force_zip64=True) as member:
                npy_format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def block_arrays(block: Block) -> dict[str, NDArray[Any]]:
    """Arrays of a block by name."""
    return {field.name: getattr(block, field.name) for field in fields(Block)}


def load_block(path: Path) -> Block:
    """Read a block, alone or in a packed file; a `DataError` if it is missing or damaged."""
    arrays = load_arrays(path)
    missing = [field.name for field in fields(Block) if field.name not in arrays]
    if missing:
        raise DataError(f"{path}: holds no block of lists: the array {missing[0]!r} is missing")
    block = Block(**{field.name: arrays[field.name] for field in fields(Block)})
    _check(path, block)
    return block


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file by name, without unpickling; a `DataError` if it is missing or damaged."""
    try:
        # numpy leaves a damaged file open for the garbage collector.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # numpy, zipfile and lzma raise a dozen types for damaged files
        raise DataError(f"{path}: cannot be read: {str(error)[:80]}") from error


def _check(path: Path, block: Block) -> None:
    """Check that all numbers have referents; record numbers are checked on reading."""
    for field in fields(Block):
        array = getattr(block, field.name)
        wanted = _TYPES.get(field.name, "u")
        if array.ndim != 1 or array.dtype.kind != wanted:
            raise DataError(f"{path}: the array {field.name!r} is not one row of the type {wanted!r}")
    texts, slots = block.num_texts, len(block.candidate)
    if not (
        len(block.text_index) == len(block.text_form) == len(block.text_is_query) == texts
        and len(block.query) == len(block) == len(block.start) - 1
        and len(block.grade) == slots
        and len(block.source_names) == len(block.source_digests)
        and int(block.start[0]) == 0
        and int(block.start[-1]) == slots
        and bool((np.diff(block.start.astype(np.int64)) > 0).all())
        and _is_below(block.query, texts)
        and _is_below(block.candidate, texts)
        and _is_below(block.text_source, len(block.source_names))
        and _is_below(block.text_form, len(Form))
        and _is_below(block.kind, len(KINDS))
    ):
        raise DataError(f"{path}: the arrays of the block do not fit together")


def _is_below(numbers: NDArray[Any], limit: int) -> bool:
    return len(numbers) == 0 or int(numbers.max()) < limit


@dataclass(frozen=True)
class NamedList:
    """List before its texts are numbered.

    Attributes:
        kind: Position in `KINDS`.
        query: Name of the query.
        candidates: Names of the candidates, in any order.
        grades: One per candidate.
    """

    kind: int
    query: TextRef
    candidates: tuple[TextRef, ...]
    grades: tuple[int, ...]


def numbered(lists: Sequence[NamedList], digests: dict[str, str]) -> Block:
    """Number the texts of lists, in order; `digests` covers all their sources."""
    rows: dict[TextRef, int] = {}
    for one in lists:
        for ref in (one.query, *one.candidates):
            rows.setdefault(ref, len(rows))
    names = sorted({ref.source for ref in rows})
    place = {name: position for position, name in enumerate(names)}
    sizes = np.cumsum([0, *(len(one.candidates) for one in lists)])
    return Block(
        source_names=np.array(names, dtype=np.str_),
        source_digests=np.array([digests[name] for name in names], dtype=np.str_),
        text_source=np.array([place[ref.source] for ref in rows], dtype=np.uint8),
        text_index=np.array([ref.number for ref in rows], dtype=np.uint32),
        text_form=np.array([ref.form for ref in rows], dtype=np.uint8),
        text_is_query=np.array([ref.is_query for ref in rows], dtype=np.uint8),
        kind=np.array([one.kind for one in lists], dtype=np.uint8),
        query=_smallest([rows[one.query] for one in lists]),
        start=sizes.astype(np.uint32),
        candidate=_smallest([rows[ref] for one in lists for ref in one.candidates]),
        grade=np.array([grade for one in lists for grade in one.grades], dtype=np.int8),
    )


def _smallest(numbers: list[int]) -> NDArray[np.unsignedinteger[Any]]:
    array = np.array(numbers, dtype=np.uint32)
    return array.astype(np.uint16) if _is_below(array, 1 << 16) else array
