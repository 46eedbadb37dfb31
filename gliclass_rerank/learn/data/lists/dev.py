"""Dev sets from held-out queries, for `dev` in a training config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.files.atomic_write import atomic_folder
from gliclass_rerank.learn.data.lists.asking import Corpus, open_corpus
from gliclass_rerank.learn.data.lists.forms import Form, TextRef, text_of
from gliclass_rerank.learn.data.lists.judged import stable_number
from gliclass_rerank.learn.data.lists.kinds import KINDS
from gliclass_rerank.learn.data.retrieval import Bm25Retriever

# Enough for hard negatives; BM25's indexing takes the time.
_MOST_SEARCHED: Final = 20_000
_FORMS: Final[Mapping[str, Form]] = {"squad_sent": Form.BODY, "selqa": Form.BODY, "se_small": Form.LONG}
_REWORDED: Final = ("squad", "desktop_help")


@dataclass(frozen=True)
class _DevSet:
    """Dev set.

    Attributes:
        name: Name of its folder.
        collection: Source of queries and passages.
        form: Form of the queries.
        passage_form: Form of the passages.
    """

    name: str
    collection: str
    form: Form
    passage_form: Form


def write_dev_sets(data: Path, out: Path, *, num_queries: int, num_candidates: int) -> dict[str, int]:
    """Write a dev set per collection, and more with reworded queries.

    Candidates are BM25's best plus the relevant passages: only their order is measured.

    Args:
        data: Data folder.
        out: New folder with one subfolder per set.
        num_queries: Maximum queries per set.
        num_candidates: Candidates per query.

    Returns:
        Number of queries by set.

    Raises:
        DataError: A file is missing or malformed.
    """
    corpus = open_corpus(data)
    counts: dict[str, int] = {}
    with atomic_folder(out) as staging:
        for one in _dev_sets(corpus):
            folder = staging / one.name
            folder.mkdir()
            counts[one.name] = _write(corpus, one, folder, num_queries, num_candidates)
    return counts


def _dev_sets(corpus: Corpus) -> list[_DevSet]:
    names = dict.fromkeys(name for kind in KINDS for name in kind.asked if f"{name}/corpus" in corpus.sources)
    sets = [_DevSet(name, name, Form.QUESTION, _FORMS.get(name, Form.PASSAGE)) for name in names]
    sets += [_DevSet(f"{name}-reworded", name, Form.REWORDED, Form.PASSAGE) for name in _REWORDED if name in names]
    return [one for one in sets if corpus.judged(one.collection).held]


def _write(corpus: Corpus, one: _DevSet, folder: Path, num_queries: int, num_candidates: int) -> int:
    judged = corpus.judged(one.collection).held
    chosen = sorted(judged, key=lambda query: stable_number("dev", one.name, query))
    relevant = {query: [doc for doc, grade in judged[query].items() if grade > 0] for query in chosen}
    chosen = [query for query in chosen if 0 < len(relevant[query]) < num_candidates][:num_queries]
    documents = _documents(corpus, one, [doc for query in chosen for doc in judged[query]])
    numbers = list(documents)
    place = {number: position for position, number in enumerate(numbers)}
    queries = [_text(corpus, f"{one.collection}/queries", query, one.form) for query in chosen]
    found = Bm25Retriever(list(documents.values())).retrieve(queries, num_candidates)
    lists, grades = [], []
    for query, ranking in zip(chosen, found, strict=True):
        known = {place[doc]: grade for doc, grade in judged[query].items() if doc in place}
        positives = [position for position, grade in known.items() if grade > 0]
        # Judged negatives, such as other sentences of an answer, are the hard ones.
        misses = [position for position, grade in known.items() if grade <= 0]
        merged = list(dict.fromkeys([*positives, *misses[: num_candidates // 2], *ranking]))[:num_candidates]
        merged.sort(key=lambda position, query=query: stable_number("place", query, position))  # type: ignore[misc]
        lists.append({"query_id": str(query), "doc_ids": [str(numbers[position]) for position in merged]})
        grades += [f"{query}\t{numbers[position]}\t{known[position]}" for position in merged if position in known]
    kept = sorted({doc for one_list in lists for doc in one_list["doc_ids"]}, key=int)
    _write_lines(folder / "queries.jsonl", [{"id": str(q), "text": t} for q, t in zip(chosen, queries, strict=True)])
    _write_lines(folder / "corpus.jsonl", [{"id": doc, "text": documents[int(doc)]} for doc in kept])
    _write_lines(folder / "candidates.jsonl", lists)
    (folder / "qrels.dev.tsv").write_text("".join(f"{line}\n" for line in grades), encoding="utf-8")
    return len(chosen)


def _documents(corpus: Corpus, one: _DevSet, judged: Sequence[int]) -> dict[int, str]:
    """Judged passages, and others of the collection as hard negatives; equal texts once."""
    source = f"{one.collection}/corpus"
    others = sorted(range(len(corpus.sources[source])), key=lambda number: stable_number("dev", source, number // 48))
    texts: dict[int, str] = {}
    seen: set[str] = set()
    for number in (*dict.fromkeys(judged), *others[:_MOST_SEARCHED]):
        text = _text(corpus, source, number, one.passage_form)
        key = text_identity(text)
        if key and key not in seen:
            seen.add(key)
            texts[number] = text
    return texts


def _text(corpus: Corpus, source: str, number: int, form: Form) -> str:
    return text_of(TextRef(source, number, form, False), corpus.sources[source])


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
