"""Finding candidates: the seam between mining and what searches the pool, and BM25."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final, Protocol

import numpy as np

from gliclass_rerank._imports import require
from gliclass_rerank.errors import ConfigError, shown

# Anserini's, the usual first stage: passages differ little in length, so that length should count little.
_K1: Final = 0.9
_B: Final = 0.4
_STOPWORD_LANGUAGES: Final = frozenset({"da", "de", "en", "es", "fr", "it", "nl", "no", "pt", "ru", "sv", "tr"})


class Retriever(Protocol):
    """Searches a pool."""

    def retrieve(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """Find the best passages for each query.

        Args:
            queries: What is searched for.
            depth: How many passages to return at most.

        Returns:
            For each query positions in the pool, best first; only passages with something in common with it.
        """
        ...


class Bm25Retriever:
    """BM25 over stemmed words without stop words.

    Args:
        texts: The pool.
        language: Two-letter code; decides the stemmer and the stop words.

    Raises:
        ConfigError: An unknown language.
        MissingDependencyError: `bm25s` or `PyStemmer` is not installed.
    """

    def __init__(self, texts: Sequence[str], *, language: str = "en") -> None:
        if language not in _STOPWORD_LANGUAGES:
            raise ConfigError(
                f"`language` must be one of {', '.join(sorted(_STOPWORD_LANGUAGES))}, got {shown(language)}"
            )
        self._bm25s = require("bm25s", extra="mining")
        self._stemmer = require("Stemmer", extra="mining").Stemmer(language)
        self._language = language
        self._index = self._bm25s.BM25(k1=_K1, b=_B)
        self._index.index(self._words(texts), show_progress=False)
        self._size = len(texts)

    def retrieve(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """See `Retriever`; ties by position in the pool.

        Args:
            queries: What is searched for.
            depth: How many passages to return at most.

        Returns:
            Positions of passages that share a word with the query, best first.
        """
        if not queries:
            return []
        found, scores = self._index.retrieve(
            self._words(queries), k=min(depth, self._size), show_progress=False, n_threads=1
        )
        return [
            [int(index) for index in row[np.lexsort((row, -row_scores))] if index in matching]
            for row, row_scores in zip(found, scores, strict=True)
            for matching in [set(row[row_scores > 0].tolist())]
        ]

    def _words(self, texts: Sequence[str]) -> Any:  # Any: bm25s's own type, which it does not export
        return self._bm25s.tokenize(list(texts), stopwords=self._language, stemmer=self._stemmer, show_progress=False)


def interleaved(rankings: Sequence[Sequence[int]], depth: int) -> list[int]:
    """Merge rankings by taking turns, each passage once.

    Args:
        rankings: Positions, best first.
        depth: How many to return at most.

    Returns:
        The merged ranking.
    """
    turns = chain.from_iterable(zip_longest(*rankings))
    return list(dict.fromkeys(index for index in turns if index is not None))[:depth]
