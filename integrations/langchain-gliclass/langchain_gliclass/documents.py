"""Reads LangChain's documents and makes the reranked ones; what it is given never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from gliclass_rerank.adapters import owned, text_with_metadata


def shown_text(document: Document, metadata_keys: Sequence[str], separator: str) -> str:
    """Text for the model: the values of the metadata keys, then the content; a missing or None value is skipped."""
    return text_with_metadata(document.page_content, document.metadata, metadata_keys, separator)


def reranked(document: Document, score: float | None, notes: Mapping[str, float | int | str]) -> Document:
    """Copy a document, with the score, unless it is None, and the notes in its metadata; embeddings are shared."""
    metadata = _owned_metadata(document)
    if score is not None:
        metadata["relevance_score"] = score
    metadata.update(notes)
    return document.model_copy(update={"metadata": metadata})


def pruned(document: Document, content: str, notes: Mapping[str, Any]) -> Document:  # Any: JSON
    """Copy a document, with other content and the notes in its metadata."""
    return document.model_copy(update={"page_content": content, "metadata": {**_owned_metadata(document), **notes}})


def _owned_metadata(document: Document) -> dict[str, Any]:  # Any: whatever metadata hold
    return {key: value if _is_embedding(value) else owned(value) for key, value in document.metadata.items()}


def _is_embedding(value: object) -> bool:
    return type(value) is list and bool(value) and type(value[0]) is float
