"""Reads LangChain's documents and makes the reranked ones; what it is given never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.documents import Document

from langchain_gliclass.checks import reading

_CONTAINERS: Final = frozenset((dict, list, set, tuple))


def shown_text(document: Document, metadata_keys: Sequence[str], separator: str) -> str:
    """What the model sees: the values of the metadata keys, then the content; a missing or None value is skipped."""
    with reading("a document's text"):  # metadata are whatever somebody put there
        values = (document.metadata.get(key) for key in metadata_keys)
        return separator.join([*(str(value) for value in values if value is not None), document.page_content])


def reranked(document: Document, score: float | None, notes: Mapping[str, float | int | str]) -> Document:
    """A copy with the score, unless it is None, and the notes in its metadata."""
    metadata = _owned(document.metadata)
    if score is not None:
        metadata["relevance_score"] = score
    metadata.update(notes)
    return document.model_copy(update={"metadata": metadata})


def _owned(value: Any) -> Any:  # Any: whatever metadata holds
    """A copy in which dicts, lists, tuples and sets are new at every depth; embeddings and other values are shared.

    `copy.deepcopy` would copy embeddings number by number and fail on clients and locks.
    """
    kind = type(value)
    if kind is dict:
        return {key: _owned(item) if type(item) in _CONTAINERS else item for key, item in value.items()}
    if kind is list:
        is_embedding = bool(value) and type(value[0]) is float
        return value if is_embedding else [_owned(item) for item in value]
    if kind is tuple:
        return tuple(map(_owned, value))
    return value.copy() if kind is set else value
