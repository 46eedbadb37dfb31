"""Queries for mining: judged ones of collections, and files of unjudged questions.

A file of questions is `.txt` (one per line), `.tsv` (first column) or `.jsonl` (`query`, else `text`), perhaps gzipped.
Queries with the same `text_identity` are merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.learn.data.passage_pool import Pool, named, required
from gliclass_rerank.learn.data.records import checked_unicode
from gliclass_rerank.learn.evaluation.collection import qrels_file, read_judgments
from gliclass_rerank.learn.evaluation.files import GZIP_SUFFIX, read_jsonl, read_lines

_QUESTION_SUFFIXES: Final = (".jsonl", ".tsv", ".txt")


@dataclass(frozen=True)
class Query:
    """Query with its judgments.

    Attributes:
        id: `<collection>/<query id>`, or `<file>/<line>`.
        text: Query.
        grades: Grade by position in the pool; empty if unjudged.
    """

    id: str
    text: str
    grades: Mapping[int, int]

    @property
    def positives(self) -> list[int]:
        """Positions of the relevant passages, in the order of the judgments."""
        return [index for index, grade in self.grades.items() if grade > 0]


@dataclass(frozen=True)
class Judged:
    """Judged collection.

    Attributes:
        folder: Folder in the `rerank/` format.
        split: Split of its judgments (`qrels.<split>.tsv`).
    """

    folder: Path
    split: str = "train"

    def __str__(self) -> str:
        return f"{self.folder}:{self.split}"


@dataclass(frozen=True)
class Sources:
    """Sources of queries and passages.

    Attributes:
        collections: Collections with judged queries and passages.
        corpora: Folders in the same format, used for passages only.
        questions: Files of unjudged questions.
    """

    collections: tuple[Judged, ...] = ()
    corpora: tuple[Path, ...] = ()
    questions: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not (self.collections or self.questions):
            raise InputError("mining needs queries: a collection or a file of questions, got neither")

    @property
    def folders(self) -> list[Path]:
        """All folders whose passages are searched."""
        return [*(judged.folder for judged in self.collections), *self.corpora]


def load_queries(sources: Sources, pool: Pool, *, limit: int | None, seed: int) -> list[Query]:
    """Read the queries of all sources.

    Args:
        sources: Sources of queries.
        pool: Passages of the judgments.
        limit: Random sample size per source; None for all.
        seed: Seed of samples and order.

    Returns:
        Shuffled queries, without those of collections that have no relevant passage in the pool.

    Raises:
        InputError: Two sources share a name.
        DataError: A file is missing or malformed, or no query is left.
    """
    rng = np.random.default_rng(seed)
    merged: dict[str, Query] = {}
    for queries in _by_source(sources, pool):
        for query in _sample(queries, limit, rng):
            key = text_identity(query.text)
            merged[key] = _merge(merged[key], query) if key in merged else query
    if not merged:
        raise DataError("there are no queries left: none of them has a relevant passage among those read")
    kept = list(merged.values())
    return [kept[position] for position in rng.permutation(len(kept))]


def _by_source(sources: Sources, pool: Pool) -> Iterator[list[Query]]:
    names: set[str] = set()
    for judged in sources.collections:
        (name,) = named([judged.folder])
        names.add(name)
        yield list(_judged_queries(name, judged, pool))
    for path in sources.questions:
        name = path.name.removesuffix(GZIP_SUFFIX).rpartition(".")[0]
        if name in names:
            raise InputError(f"sources of queries must differ in name, got a second `{name}`: {shown(str(path))}")
        names.add(name)
        yield [
            Query(f"{name}/{line}", checked_unicode(f"{path}:{line}", text.strip()), {})
            for line, text in _questions(path)
            if text.strip()
        ]


def _judged_queries(name: str, source: Judged, pool: Pool) -> Iterator[Query]:
    judged = _judgments(name, qrels_file(source.folder, source.split), pool)
    known: set[str] = set()
    for record in read_jsonl(required(source.folder, "queries.jsonl")):
        query_id, text = record.id, checked_unicode(record.place, record.string("text").strip())
        if query_id in known:
            raise DataError(f"{record.place}: a second entry with the id `{query_id}`")
        known.add(query_id)
        query = Query(f"{name}/{query_id}", text, judged.get(query_id, {}))
        if text and query.positives:
            yield query


def _judgments(name: str, path: Path, pool: Pool) -> dict[str, dict[int, int]]:
    judged: dict[str, dict[int, int]] = {}
    for query_id, doc_id, grade in read_judgments(path):
        # Judged documents may be missing from a corpus: TREC's judgments cover several candidate sets.
        index = pool.index_of.get(f"{name}/{doc_id}")
        if index is not None:
            grades = judged.setdefault(query_id, {})
            grades[index] = max(grade, grades.get(index, grade))
    return judged


def _questions(path: Path) -> Iterable[tuple[int, str]]:
    suffix = Path(path.name.removesuffix(GZIP_SUFFIX)).suffix
    if suffix == ".txt":
        return read_lines(path)
    if suffix == ".tsv":
        return ((line, text.partition("\t")[0]) for line, text in read_lines(path))
    if suffix == ".jsonl":
        return (
            (record.line, record.string("query" if "query" in record.fields else "text")) for record in read_jsonl(path)
        )
    raise DataError(
        f"{path}: the name of a file of questions must end in {', '.join(_QUESTION_SUFFIXES)}, perhaps with .gz"
    )


def _sample(queries: Sequence[Query], limit: int | None, rng: np.random.Generator) -> Sequence[Query]:
    if limit is None or len(queries) <= limit:
        return queries
    chosen = np.sort(rng.choice(len(queries), size=limit, replace=False))
    return [queries[position] for position in chosen]


def _merge(first: Query, second: Query) -> Query:
    grades = dict(first.grades)
    for index, grade in second.grades.items():
        grades[index] = max(grade, grades.get(index, grade))
    return Query(first.id, first.text, grades)
