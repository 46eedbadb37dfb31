"""Judgments of a collection, and their split into training and held-out parts.

A `dev` split is held out. In other collections a fortieth of the passages, in runs of neighbours, is held out with all
queries on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from gliclass_rerank.learn.data.lists.kinds import num_shards
from gliclass_rerank.learn.data.lists.sources import Item, Sources
from gliclass_rerank.learn.evaluation.collection import qrels_file, read_judgments
from gliclass_rerank.learn.evaluation.files import existing

# Neighbours in a corpus share a topic: they stay together, as each other's hard negatives.
_CLUSTER: Final = 48
_HELD_OUT: Final = 40

Grades = Mapping[int, Mapping[int, int]]
"""Grade by query number and document number."""


@dataclass(frozen=True)
class Judged:
    """Judgments of one collection.

    Attributes:
        name: Collection.
        sources: Its records.
    """

    name: str
    sources: Sources

    @cached_property
    def train(self) -> Grades:
        """Training judgments: those of queries without held-out relevant passages."""
        return {
            query: grades
            for query, grades in self._split("train").items()
            if not any(grade > 0 and document in self.held_documents for document, grade in grades.items())
        }

    @cached_property
    def held(self) -> Grades:
        """Held-out judgments."""
        if self._has_dev:
            return self._split("dev")
        return {
            query: grades
            for query, grades in self._split("train").items()
            if any(grade > 0 and is_held_cluster(self.name, document) for document, grade in grades.items())
        }

    @cached_property
    def held_documents(self) -> frozenset[int]:
        """Held-out relevant passages; no list contains them."""
        return frozenset(document for grades in self.held.values() for document, grade in grades.items() if grade > 0)

    @property
    def _has_dev(self) -> bool:
        return existing(self._folder / "qrels.dev.tsv") is not None

    @property
    def _folder(self) -> Path:
        return self.sources.data / "rerank" / "train" / self.name

    @cached_property
    def _numbers(self) -> tuple[dict[str, int], dict[str, int]]:
        queries, corpus = self.sources[f"{self.name}/queries"], self.sources[f"{self.name}/corpus"]
        return _by_id(queries), _by_id(corpus)

    def _split(self, split: str) -> dict[int, dict[int, int]]:
        queries, corpus = self._numbers
        judged: dict[int, dict[int, int]] = {}
        for query_id, doc_id, grade in read_judgments(qrels_file(self._folder, split)):
            if query_id in queries and doc_id in corpus:
                judged.setdefault(queries[query_id], {})[corpus[doc_id]] = grade
        return judged


def _by_id(items: Sequence[Item]) -> dict[str, int]:
    return {item.id: place for place, item in enumerate(items)}


def shard_of(collection: str, index: int) -> int:
    """Shard of a record in its collection."""
    return stable_number(collection, index // _CLUSTER) % num_shards(collection)


def is_held_cluster(collection: str, index: int) -> bool:
    """Test for a held-out record in a collection without a `dev` split."""
    return stable_number("held", collection, index // _CLUSTER) % _HELD_OUT == 0


def stable_number(*parts: object) -> int:
    """Number below 2**32 that depends on the parts alone."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=4).digest(), "big")
