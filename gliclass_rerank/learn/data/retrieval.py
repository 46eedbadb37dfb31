"""Candidate retrieval: the interface of mining, and BM25."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final, Protocol

import numpy as np

from gliclass_rerank._imports import require
from gliclass_rerank.errors import ConfigError, shown

# Anserini's first-stage defaults: passages differ little in length, so length counts little.
_K1: Final = 0.9
_B: Final = 0.4
_STOPWORD_LANGUAGES: Final = frozenset({"da", "de", "en", "es", "fr", "it", "nl", "no", "pt", "ru", "sv", "tr"})


class Retriever(Protocol):
    """Search in a pool."""

    def retrieve(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """Find up to `depth` pool positions per query, best first, only of passages with something in common."""
        ...


class Bm25Retriever:
    """BM25 over stemmed words without stop words.

    Args:
        texts: Pool.
        language: Two-letter code of stemmer and stop words.
        extra: Extra of gliclass-rerank that installs both packages.

    Raises:
        ConfigError: Unknown language.
        MissingDependencyError: `bm25s` or `PyStemmer` is not installed.
    """

    def __init__(self, texts: Sequence[str], *, language: str = "en", extra: str = "mining") -> None:
        if language not in _STOPWORD_LANGUAGES:
            raise ConfigError(
                f"`language` must be one of {', '.join(sorted(_STOPWORD_LANGUAGES))}, got {shown(language)}"
            )
        self._bm25s = require("bm25s", extra=extra)
        logging.getLogger("bm25s").setLevel(logging.WARNING)  # its own choice is DEBUG
        self._stemmer = require("Stemmer", extra=extra).Stemmer(language)
        self._language = language
        self._index = self._bm25s.BM25(k1=_K1, b=_B)
        words = self._words(texts)
        self._size = len(texts) if any(words.ids) else 0  # bm25s cannot index texts of which no word is left
        if self._size:
            self._index.index(words, show_progress=False)

    def retrieve(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """Find passages that share a word with each query, best first, ties by position in the pool."""
        if not queries or not self._size:
            return [[] for _ in queries]
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
    """Interleave rankings, each passage once, up to `depth`."""
    turns = chain.from_iterable(zip_longest(*rankings))
    return list(dict.fromkeys(index for index in turns if index is not None))[:depth]
