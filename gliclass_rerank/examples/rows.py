"""Values of a store's rows, and their conversion from and to SQLite's types."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gliclass_rerank.checks import MAX_NESTING, is_a, nesting, reading
from gliclass_rerank.errors import InputError, cause, shown
from gliclass_rerank.examples.index import FloatArray, IntArray
from gliclass_rerank.types import Example


@dataclass(frozen=True)
class Identity:
    """Encoder that filled a store.

    Attributes:
        encoder: Fingerprint.
        probe: FloatArray [dim]. Vector of a fixed text.
    """

    encoder: str
    probe: FloatArray

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return len(self.probe)


@dataclass(frozen=True)
class Stored:
    """Example in a store.

    Attributes:
        id: Id of the example.
        example: Example.
        metadata: Stored metadata, a copy.
    """

    id: str
    example: Example
    metadata: dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class NewRecord:
    """Record to be written.

    Attributes:
        id: Id of the example; None for its row number.
        example: Example.
        metadata: JSON text from `metadata_text`.
    """

    id: str | None
    example: Example
    metadata: str


@dataclass(frozen=True)
class Position:
    """Point in a store's history of changes.

    Attributes:
        state: Random number redrawn with every change: equal numbers mean equal records.
        last_row: Greatest row number ever given.
        last_removal: Number of the last removal.
    """

    state: int
    last_row: int
    last_removal: int


def metadata_text(name: str, metadata: object) -> str:
    """Serialise metadata to JSON with sorted keys; None is empty, and anything but a JSON object is an `InputError`.

    `name` identifies it in the message.
    """
    if metadata is None:
        return "{}"
    if not is_a(metadata, Mapping):
        raise InputError(f"{name} must be a mapping with strings as keys, got {shown(metadata)}")
    with reading(name):
        values = dict(metadata)  # type: ignore[call-overload] # a mapping
    if not all(is_a(key, str) for key in values):
        raise InputError(f"{name} must be a mapping with strings as keys, got {shown(values)}")
    try:
        text = json.dumps(values, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except Exception as error:  # noqa: BLE001 - of the caller's objects
        raise InputError(f"{name} must hold JSON values only: {cause(error)}") from None
    if nesting(json.loads(text)) > MAX_NESTING:
        raise InputError(f"{name} must be nested at most {MAX_NESTING} deep")
    return text


def example_text(example: Example) -> str:
    """Serialise an example to JSON."""
    return json.dumps(example.to_dict(), ensure_ascii=False, separators=(",", ":"))


def to_stored(name: object, example: str, metadata: str) -> Stored:
    """Read a row; an exception of Python's if it is none."""
    if not isinstance(name, str):
        raise TypeError("an id is not a text")
    return Stored(name, Example(**json.loads(example)), to_metadata(metadata))


def to_metadata(text: str) -> dict[str, Any]:  # Any: JSON
    """Read metadata from JSON; an exception of Python's if they are none."""
    values = json.loads(text)
    if not isinstance(values, dict):
        raise TypeError("metadata are not a mapping")
    return values


def whole(value: object) -> int:
    """Check for an integer; a `TypeError` if it is none."""
    if not isinstance(value, int):
        raise TypeError("a row number is not a number")
    return value


def to_position(found: Sequence[tuple[object, object, object]]) -> Position:
    """Read a position from the only row of a query; an exception of Python's if there is none."""
    ((state, row, removal),) = found
    return Position(whole(state), whole(row), 0 if removal is None else whole(removal))


def to_identity(found: Sequence[tuple[Any, ...]]) -> Identity:  # Any: SQLite values
    """Read an encoder's identity from the only row of a query; an exception of Python's if there is none."""
    ((encoder, dim, probe),) = found
    if not isinstance(encoder, str):
        raise TypeError("the encoder's name is not a text")
    return Identity(encoder, to_vectors([probe], dim)[0])


def to_blob(vector: FloatArray) -> bytes:
    """Convert a vector to bytes."""
    return vector.astype("<f4").tobytes()


def to_vectors(blobs: Sequence[bytes], dim: int) -> FloatArray:
    """Convert bytes to FloatArray [num_blobs, dim]; a `ValueError` for another length or unbounded numbers."""
    if any(len(blob) != 4 * dim for blob in blobs):
        raise ValueError(f"a vector does not have {dim} numbers")
    vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), dim)
    if not np.isfinite(vectors).all():
        raise ValueError("a vector is not finite")
    return vectors.astype(np.float32)


def to_arrays(found: Sequence[tuple[Any, ...]], dim: int) -> tuple[IntArray, FloatArray]:  # Any: SQLite values
    """Convert row numbers and bytes to IntArray [num_rows] and FloatArray [num_rows, dim]."""
    rows = np.array([row for row, _ in found], dtype=np.int64)
    return rows, to_vectors([vector for _, vector in found], dim)
