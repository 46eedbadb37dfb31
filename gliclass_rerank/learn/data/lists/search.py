"""Candidate search for lists of one kind: BM25, vectors, and a few random passages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final

import numpy as np

from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.learn.data.dense import nearest
from gliclass_rerank.learn.data.false_negatives import FalseNegatives
from gliclass_rerank.learn.data.lists.asking import Asked, Corpus
from gliclass_rerank.learn.data.lists.block import UNJUDGED, NamedList
from gliclass_rerank.learn.data.lists.forms import Form, TextRef, text_of
from gliclass_rerank.learn.data.lists.judged import stable_number
from gliclass_rerank.learn.data.lists.kinds import KINDS, Kind
from gliclass_rerank.learn.data.passage_pool import Pool
from gliclass_rerank.learn.data.questions import Query
from gliclass_rerank.learn.data.records import RankingRecord
from gliclass_rerank.learn.data.retrieval import Bm25Retriever, interleaved
from gliclass_rerank.learn.data.sampling import Sampling
from gliclass_rerank.learn.data.selection import Selector
from gliclass_rerank.text_models.interfaces import FloatArray

_SAMPLING: Final = Sampling(num_negatives=8, depth=60, head_size=8, head_share=0.625)
_RANDOM: Final = 2
_FEWEST: Final = 6
_CHUNK: Final = 256


class Searched:
    """Passages searched by the queries of one kind; equal texts once.

    Args:
        corpus: Usable data.
        number: Number of the kind.
        block: Number of the block.

    Attributes:
        kind: Kind of lists.
        queries: Queries in the order of the lists.
        refs: Names of the passages.
        texts: Passages.
    """

    def __init__(self, corpus: Corpus, number: int, block: int) -> None:
        self.kind: Kind = KINDS[number]
        self._number, self._sources = number, corpus.sources
        self.queries: list[Asked] = sorted(
            corpus.asked(self.kind, block), key=lambda query: stable_number("order", *query.query)
        )
        distinct: dict[str, tuple[TextRef, str]] = {}
        for source in self.kind.pool:
            for ref, text in corpus.passages(source, self.kind.passage_form, block).items():
                distinct.setdefault(text_identity(text), (ref, text))
        self._keys = list(distinct)
        self.refs = tuple(ref for ref, _ in distinct.values())
        self.texts = tuple(text for _, text in distinct.values())

    @property
    def found_by(self) -> list[TextRef]:
        """Names whose vectors find the passages: shorter forms of long ones, embedded anyway and at half the cost."""
        if self.kind.passage_form is not Form.LONG:
            return list(self.refs)
        return [ref._replace(form=Form.PASSAGE) for ref in self.refs]

    def lists(self, bm25: Bm25Retriever, asking: FloatArray, passages: FloatArray) -> Iterator[NamedList]:
        """Build the lists.

        Args:
            bm25: Retriever over `texts`.
            asking: FloatArray [num_queries, embed_dim].
            passages: FloatArray [num_passages, embed_dim].

        Yields:
            One list per query in order, except for queries with too few candidates or missing relevant passages.
        """
        selector = Selector(self._pool, _SAMPLING, FalseNegatives())
        for start in range(0, len(self.queries), _CHUNK):
            chunk = self.queries[start : start + _CHUNK]
            by_words = bm25.retrieve([query.text for query in chunk], _SAMPLING.depth)
            by_vectors = nearest(asking[start : start + _CHUNK], passages, _SAMPLING.depth)
            candidates = [
                self._allowed(query, interleaved(rankings, _SAMPLING.depth))
                for query, *rankings in zip(chunk, by_words, by_vectors, strict=True)
            ]
            records = selector.select([self._query(query) for query in chunk], candidates)
            for query, record in zip(chunk, records, strict=True):
                made = None if record is None else self._list(query, record)
                if made is not None:
                    yield made

    @cached_property
    def _known(self) -> tuple[tuple[TextRef, ...], tuple[str, ...]]:
        """Passages, followed by unsearched relevant ones: the rests of beginnings."""
        rests = sorted({ref for query in self.queries for ref in query.grades if ref.form is Form.REST})
        texts = [text_of(ref, self._sources[ref.source]) for ref in rests]
        return (*self.refs, *rests), (*self.texts, *texts)

    @cached_property
    def _place(self) -> dict[TextRef, int]:
        return {ref: position for position, ref in enumerate(self._known[0])}

    @cached_property
    def _pool(self) -> Pool:
        texts = self._known[1]
        return Pool(texts, tuple(map(str, range(len(texts)))), {}, len(texts))

    def _allowed(self, query: Asked, candidates: Sequence[int]) -> list[int]:
        """Exclude the query itself, if questions are passages, and the passage it was taken from."""
        key = text_identity(query.text)
        hidden = -1 if query.hidden is None else self._place.get(query.hidden, -1)
        return [index for index in candidates if index != hidden and self._keys[index] != key]

    def _query(self, query: Asked) -> Query:
        grades = {self._place[ref]: grade for ref, grade in query.grades.items() if ref in self._place}
        return Query(json.dumps(query.query), query.text, grades)

    def _list(self, query: Asked, record: RankingRecord) -> NamedList | None:
        ids = [int(name) for name in record.passage_ids or ()]
        grades = [UNJUDGED if grade is None else int(grade) for grade in record.grades]
        if query.grades and max(grades) <= 0:
            return None  # its relevant passage repeats another one
        drawn = self._random(query, ids)
        if len(ids) + len(drawn) < _FEWEST:
            return None
        refs = tuple(self._known[0][index] for index in (*ids, *drawn))
        return NamedList(self._number, query.query, refs, (*grades, *[UNJUDGED] * len(drawn)))

    def _random(self, query: Asked, taken: Sequence[int]) -> list[int]:
        """Random passages, for easy negatives."""
        rng = np.random.default_rng(stable_number("random", *query.query))
        drawn = dict.fromkeys(rng.integers(len(self.refs), size=4 * _RANDOM).tolist())
        return [index for index in self._allowed(query, list(drawn)) if index not in taken][:_RANDOM]
