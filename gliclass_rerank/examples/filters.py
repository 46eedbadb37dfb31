"""Search filters: metadata conditions, excluded ids and texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gliclass_rerank.checks import checked_text, checked_texts, is_a, reading
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.examples.rows import Stored
from gliclass_rerank.examples.text_identity import text_identity

Metadata = Mapping[str, Any]  # Any: JSON
Where = Metadata | Callable[[Metadata], bool] | None


@dataclass(frozen=True)
class Filter:
    """Conditions on an example; all must hold.

    Attributes:
        where: Predicate on the metadata; None accepts all.
        fragments: Necessary substrings of the metadata's JSON, for the database to prefilter.
        excluded_ids: Ids to exclude.
        excluded_text: Text to exclude, compared by `text_identity`.
    """

    where: Callable[[Metadata], bool] | None = None
    fragments: tuple[str, ...] = ()
    excluded_ids: frozenset[str] = frozenset()
    excluded_text: str | None = None

    def accepts(self, stored: Stored) -> bool:
        """Test an example."""
        if stored.id in self.excluded_ids:
            return False
        if self.excluded_text is not None and text_identity(stored.example.text) == self.excluded_text:
            return False
        return self.where is None or bool(self.where(stored.metadata))


def make_filter(where: object, exclude_ids: object, exclude_text: object) -> Filter:
    """Build a filter from the arguments of `ExampleStore.search`; an `InputError` for a wrong type."""
    if is_a(exclude_ids, Collection) and not is_a(exclude_ids, (str, bytes, bytearray, Mapping)):
        with reading("`exclude_ids`"):
            ids = list(exclude_ids)  # type: ignore[call-overload] # a collection
        excluded_ids = frozenset(checked_texts("exclude_ids", ids))
    else:
        raise InputError(f"`exclude_ids` must be a collection of strings, got {shown(exclude_ids)}")
    excluded_text = None if exclude_text is None else text_identity(checked_text("`exclude_text`", exclude_text))
    if where is None or callable(where):
        return Filter(where, excluded_ids=excluded_ids, excluded_text=excluded_text)
    with reading("`where`"):
        wanted: dict[Any, Any] = dict(where) if is_a(where, Mapping) else {0: None}  # type: ignore[call-overload] # one
        if not all(is_a(key, str) for key in wanted):
            raise InputError(f"`where` must be a mapping with strings as keys, or a function, got {shown(where)}")
        # Other equal values have several spellings, such as 1 and 1.0.
        fragments = tuple(
            json.dumps({key: value}, separators=(",", ":"))[1:-1]
            for key, value in wanted.items()
            if value is None or is_a(value, str)
        )

    def holds(metadata: Metadata) -> bool:
        with reading("`where`"):  # the values' own comparison
            return all(key in metadata and bool(metadata[key] == value) for key, value in wanted.items())

    return Filter(holds, fragments, excluded_ids, excluded_text)
