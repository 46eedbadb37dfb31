"""Values read from files of other programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from gliclass_rerank.errors import DataError, shown
from gliclass_rerank.learn.evaluation.files import Record

T = TypeVar("T")

_BATCH: Final = 500


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes:
        num_rankings: Rankings read.
        num_signals: Signals read.
        num_skipped: Lines without a use: of unknown rankings or passages, or of other actions.
    """

    num_rankings: int
    num_signals: int
    num_skipped: int = 0


def in_batches(entries: Iterable[T], add: Callable[[list[T]], None]) -> int:
    """Add entries a batch at a time, and count them."""
    rest, count = iter(entries), 0
    while batch := list(islice(rest, _BATCH)):
        add(batch)
        count += len(batch)
    return count


def number_at(record: Record, fields: Mapping[str, Any], key: str) -> float:  # Any: JSON
    """Read a finite number; a `DataError` if it is none."""
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DataError(f"{record.place}: `{key}` must be a number, got {shown(value)}")
    return float(value)


def optional_number(record: Record, fields: Mapping[str, Any], key: str) -> float | None:  # Any: JSON
    """Read a finite number, or None if it is absent or null."""
    return None if fields.get(key) is None else number_at(record, fields, key)


def position_at(record: Record, fields: Mapping[str, Any], key: str) -> int:  # Any: JSON
    """Read a position, an integer of at least 0; a `DataError` if it is none."""
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{record.place}: `{key}` must be a whole number of at least 0, got {shown(value)}")
    return value


def text_at(record: Record, fields: Mapping[str, Any], key: str) -> str | None:  # Any: JSON
    """Read a text, or None if it is absent or null; a `DataError` for anything else."""
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{record.place}: `{key}` must be a string, got {shown(value)}")
    return value


def mappings_at(record: Record, fields: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:  # Any: JSON
    """Read a list of objects; a `DataError` for anything else."""
    values = fields.get(key)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(f"{record.place}: `{key}` must be a list of objects, got {shown(values)}")
    yield from values
