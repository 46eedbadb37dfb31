"""Reranking collections: queries, judgments, candidates and their passages.

```
<folder>/queries.jsonl              {"id", "text"}
         corpus.jsonl               {"id", "title"?, "text"}
         qrels.<split>.tsv          query id TAB document id TAB grade; positive from 1
         candidates.jsonl           {"query_id", "doc_ids"}, best first
         bm25_top100.<split>.jsonl  the same, for collections without a list of their own
```

Each file may be gzipped (`.gz`). Candidates come from `candidates.jsonl` if it holds a query with a positive judgment
in the split, else from `bm25_top100`, else BM25 finds them in the corpus. Only candidate documents are kept in memory.

A BEIR folder is read as it is: `_id` in place of `id`, and `qrels/<split>.tsv` with a header.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError, InputError, listed, shown
from gliclass_rerank.learn.evaluation.files import GZIP_SUFFIX, Record, existing, read_jsonl, read_tsv
from gliclass_rerank.learn.evaluation.first_stage import bm25_candidates
from gliclass_rerank.learn.evaluation.passages import passage_text

# Gains overflow beyond it.
_MAX_GRADE: Final = 10**6
_BEIR_HEADER: Final = ("query-id", "corpus-id", "score")

Qrels = Mapping[str, Mapping[str, int]]
Candidates = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Collection:
    """Queries with a positive judgment and candidates, in file order.

    Attributes:
        name: Name of the folder.
        queries: Text by query.
        passages: Text by candidate: title, space, text.
        qrels: Grade by query and judged document; judged documents need not be candidates.
        candidates: First-stage documents by query, best first.
        has_own_candidates: A file lists the candidates; else BM25 found them in the corpus.
    """

    name: str
    queries: Mapping[str, str]
    passages: Mapping[str, str]
    qrels: Qrels
    candidates: Candidates
    has_own_candidates: bool = True

    @property
    def num_candidates(self) -> int:
        """Total number of candidates."""
        return sum(map(len, self.candidates.values()))


def has_positive(grades: Mapping[str, int]) -> bool:
    """Test for a relevant document (grade 1 or more)."""
    return any(grade > 0 for grade in grades.values())


def load_collection(
    folder: Path | str,
    split: str,
    *,
    qrels: Path | str | None = None,
    candidates: Path | str | None = None,
    limit: int | None = None,
    with_unanswerable: bool = False,
) -> Collection:
    """Read one split of a collection.

    Args:
        folder: Collection folder.
        split: Split, which names the default files.
        qrels: Other judgments: a file of the folder, else a path.
        candidates: Other candidates: a file of the folder, else a path.
        limit: Maximum number of queries, the first ones.
        with_unanswerable: Keep queries whose judgments are all negative.

    Returns:
        The collection, without queries that lack a positive judgment or candidates.

    Raises:
        InputError: `limit` is below 1.
        DataError: A file is missing or malformed, the split does not exist, a candidate is not in the corpus, or no
            query is left.
    """
    if limit is not None and limit < 1:
        raise InputError(f"`limit` must be at least 1, got {limit}")
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{named(folder)}: no such folder")
    judged = _judged(qrels_file(folder, split) if qrels is None else _file(folder, qrels), with_unanswerable)
    texts = _texts(_file(folder, "queries.jsonl"), judged.keys(), _query_text)
    source = _candidates_file(folder, split, candidates, judged)
    if source is None:
        queries = dict(islice(texts.items(), limit))
        lists, passages = _first_stage(queries, _file(folder, "corpus.jsonl"))
    else:
        lists = _read_lists(source)
        queries = dict(islice(((name, text) for name, text in texts.items() if lists.get(name)), limit))
    kept = {query_id: lists[query_id] for query_id in queries if lists.get(query_id)}
    if not kept:
        place = "the corpus" if source is None else source.name
        raise DataError(f"{named(folder)}: no query has both a positive judgment and candidates in {place}")
    return Collection(
        name=folder.resolve().name,
        queries={query_id: queries[query_id] for query_id in kept},
        passages=passages if source is None else _passages(_file(folder, "corpus.jsonl"), kept, source),
        qrels={query_id: judged[query_id] for query_id in kept},
        candidates=kept,
        has_own_candidates=source is not None,
    )


def spread(count: int, limit: int | None) -> list[int]:
    """Choose at most `limit` of `count` positions, evenly spaced, because files are often sorted by label or topic."""
    kept = count if limit is None else min(limit, count)
    return [index * count // kept for index in range(kept)]


def folder_and_split(text: str, split: str) -> tuple[Path, str]:
    """Parse `DIR` or `DIR:SPLIT`; `split` is the default."""
    folder, _, own_split = text.rpartition(":")
    # A colon may belong to the folder's name, or to a drive letter.
    return (Path(text), split) if not folder or Path(text).is_dir() else (Path(folder), own_split)


def qrels_file(folder: Path, split: str) -> Path:
    """Find the judgments of a split, plain or gzipped; a `DataError` lists the existing splits."""
    path = existing(folder / f"qrels.{split}.tsv") or existing(folder / "qrels" / f"{split}.tsv")
    if path is None:
        names = [entry.name.removeprefix("qrels.") for entry in folder.glob("qrels.*.tsv*")]
        names += [entry.name for entry in folder.glob("qrels/*.tsv*")]
        splits = {name.removesuffix(GZIP_SUFFIX).removesuffix(".tsv") for name in names}
        raise DataError(f"{named(folder)}: no split {shown(split)}; it has {listed(splits) or 'no qrels.<split>.tsv'}")
    return path


def read_judgments(path: Path) -> Iterator[tuple[str, str, int]]:
    """Read a file of judgments.

    Args:
        path: Result of `qrels_file`.

    Yields:
        Query id, document id and grade.

    Raises:
        DataError: The file cannot be read, or a row is malformed.
    """
    for place, (query_id, doc_id, text) in read_tsv(path, num_columns=3, header=_BEIR_HEADER):
        try:
            grade: int | None = int(text)
        except ValueError:
            grade = None
        if grade is None or abs(grade) > _MAX_GRADE:
            raise DataError(f"{place}: the grade must be a whole number, got {shown(text)}")
        yield query_id, doc_id, grade


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read grades by query and document; a `DataError` as from `read_judgments`."""
    qrels: dict[str, dict[str, int]] = {}
    for query_id, doc_id, grade in read_judgments(path):
        qrels.setdefault(query_id, {})[doc_id] = grade
    return qrels


def _judged(path: Path, with_unanswerable: bool) -> Qrels:
    return {name: grades for name, grades in read_qrels(path).items() if with_unanswerable or has_positive(grades)}


def _candidates_file(folder: Path, split: str, name: Path | str | None, judged: Qrels) -> Path | None:
    if name is not None:
        return _file(folder, name)
    own = existing(folder / "candidates.jsonl")
    if own is not None and not judged.keys().isdisjoint(record.string("query_id") for record in read_jsonl(own)):
        return own
    return existing(folder / f"bm25_top100.{split}.jsonl")


def _first_stage(queries: Mapping[str, str], corpus: Path) -> tuple[Candidates, Mapping[str, str]]:
    """Candidates that BM25 finds, and their passages."""
    texts = _texts(corpus, None, passage_text)
    if not queries or not texts:
        return {}, {}
    lists = bm25_candidates(queries, texts)
    return lists, {name: texts[name] for found in lists.values() for name in found}


def _read_lists(path: Path) -> Candidates:
    lists: dict[str, tuple[str, ...]] = {}
    for record in read_jsonl(path):
        query_id, doc_ids = record.string("query_id"), record.strings("doc_ids")
        if query_id in lists:
            raise DataError(f"{record.place}: a second list for the query `{named(query_id)}`")
        if repeated := {doc_id for doc_id, count in Counter(doc_ids).items() if count > 1}:
            raise DataError(f"{record.place}: candidates must differ, got {listed(repeated)} more than once")
        lists[query_id] = doc_ids
    return lists


def _passages(path: Path, candidates: Candidates, source: Path) -> Mapping[str, str]:
    needed = {doc_id for doc_ids in candidates.values() for doc_id in doc_ids}
    passages = _texts(path, needed, passage_text)
    if absent := needed - passages.keys():
        raise DataError(f"{named(source)}: candidates must be in {path.name}, which lacks {listed(absent)}")
    return passages


def _texts(path: Path, wanted: Set[str] | None, text_of: Callable[[Record], str]) -> dict[str, str]:
    """Texts by id; None for all."""
    texts: dict[str, str] = {}
    for record in read_jsonl(path):
        key = record.id
        if key in texts:
            raise DataError(f"{record.place}: a second entry with the id `{named(key)}`")
        if wanted is None or key in wanted:
            texts[key] = text_of(record)
    return texts


def _query_text(record: Record) -> str:
    return record.string("text")


def _file(folder: Path, name: Path | str) -> Path:
    path = existing(folder / name) or existing(Path(name))
    if path is None:
        raise DataError(f"{named(folder / name)}: no such file, plain or .gz")
    return path
