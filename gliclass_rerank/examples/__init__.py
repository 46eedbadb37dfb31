"""Judged examples, stored and retrieved by similarity for retrieval-augmented models.

Importing this package loads nothing heavy: names are resolved on first use. A store loads numpy, an encoder torch, and
many examples FAISS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gliclass_rerank._imports import lazy_names

if TYPE_CHECKING:
    from gliclass_rerank.examples.encoders import (
        CallableEncoder,
        LocalEncoder,
        SentenceTransformerEncoder,
        StoreEncoder,
    )
    from gliclass_rerank.examples.foreign import FALSE_LABELS, TRUE_LABELS, ForeignExampleSource, example_metadata
    from gliclass_rerank.examples.rows import Stored
    from gliclass_rerank.examples.search import Found
    from gliclass_rerank.examples.source import ExampleSource, FeedbackSource
    from gliclass_rerank.examples.store import ExampleStore
    from gliclass_rerank.settings import plain_store

__all__ = [
    "FALSE_LABELS",
    "TRUE_LABELS",
    "CallableEncoder",
    "ExampleSource",
    "ExampleStore",
    "FeedbackSource",
    "ForeignExampleSource",
    "Found",
    "LocalEncoder",
    "SentenceTransformerEncoder",
    "StoreEncoder",
    "Stored",
    "example_metadata",
    "plain_store",
]

_HOMES = {
    **dict.fromkeys(("FALSE_LABELS", "TRUE_LABELS", "ForeignExampleSource", "example_metadata"), "foreign"),
    "ExampleSource": "source",
    "ExampleStore": "store",
    "FeedbackSource": "source",
    "Found": "search",
    "Stored": "rows",
    "plain_store": ".settings",
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _HOMES, otherwise="encoders")
