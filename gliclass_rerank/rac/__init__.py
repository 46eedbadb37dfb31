"""Judged examples, kept and found again by similarity: what retrieval-augmented models retrieve from.

Importing this package loads neither torch nor FAISS; an encoder or a large store does.
"""

from __future__ import annotations

from gliclass_rerank.rac.encoders import CallableEncoder, LocalEncoder, SentenceTransformerEncoder, StoreEncoder
from gliclass_rerank.rac.records import Stored
from gliclass_rerank.rac.search import Found
from gliclass_rerank.rac.store import ExampleStore

__all__ = [
    "CallableEncoder",
    "ExampleStore",
    "Found",
    "LocalEncoder",
    "SentenceTransformerEncoder",
    "StoreEncoder",
    "Stored",
]
