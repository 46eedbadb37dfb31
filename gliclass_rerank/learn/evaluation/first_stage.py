"""BM25 candidates for collections that come without a first stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gliclass_rerank.learn.data.retrieval import Bm25Retriever

DEPTH: Final = 100


def bm25_candidates(
    queries: Mapping[str, str], corpus: Mapping[str, str], *, depth: int = DEPTH
) -> dict[str, tuple[str, ...]]:
    """Find candidates with BM25 over stemmed English words.

    Args:
        queries: Text by query.
        corpus: Text by document.
        depth: Maximum number of candidates per query.

    Returns:
        Documents by query, best first, without the query itself where it is a document too (as in ArguAna).

    Raises:
        MissingDependencyError: `bm25s` or `PyStemmer` is not installed.
    """
    names = list(corpus)
    retriever = Bm25Retriever(list(corpus.values()), extra="eval")
    found = retriever.retrieve(list(queries.values()), depth + 1)
    return {
        query_id: tuple(name for name in (names[index] for index in indices) if name != query_id)[:depth]
        for query_id, indices in zip(queries, found, strict=True)
    }
