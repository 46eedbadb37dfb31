"""Making of a report: sources read and checked, lists reranked, facts collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.collection import Qrels, read_qrels, spread
from gliclass_rerank.learn.evaluation.trec import Run, read_run
from gliclass_rerank.learn.report.comparing import Rank, bm25_run, gain, rerank_lists
from gliclass_rerank.learn.report.facts import Comparison, compared
from gliclass_rerank.learn.report.judgements import check_known, logged_qrels
from gliclass_rerank.learn.report.texts import read_corpus, read_queries
from gliclass_rerank.learn.report.writing import About

if TYPE_CHECKING:
    from gliclass_rerank import Reranker


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Files of a report.

    Attributes:
        queries: Queries, see `read_queries`.
        corpus: Documents, see `read_corpus`.
        run: Results of the user's own retriever, a TREC run.
        judgements: TSV of query id, document id and grade.
        log: Feedback log, read where there are no `judgements`.
    """

    queries: Path
    corpus: Path
    run: Path | None = None
    judgements: Path | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Material:
    """Content of a report's files.

    Attributes:
        queries: Text by id.
        corpus: Text by id.
        runs: Lists to rerank, by the retriever's name; BM25's come last.
        qrels: Grade by query and document.
    """

    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    runs: Mapping[str, Run]
    qrels: Qrels

    @property
    def num_passages(self) -> int:
        """Passages to rerank."""
        return sum(len(names) for run in self.runs.values() for names in run.values())


def read_sources(sources: Sources, *, depth: int, limit: int | None) -> Material:
    """Read and check a report's files, and retrieve with BM25.

    Args:
        sources: Files.
        depth: Maximum number of documents a query.
        limit: Maximum number of queries, evenly spaced; None for all.

    Returns:
        Their content.

    Raises:
        DataError: A file is unreadable or malformed, or has nothing to do with the queries.
        InputError: There is no such log.
        MissingDependencyError: A package of the extra `eval` is not installed.
    """
    queries, corpus = read_queries(sources.queries), read_corpus(sources.corpus)
    names = list(queries)
    queries = {names[index]: queries[names[index]] for index in spread(len(names), limit)}
    qrels = _qrels(sources, queries, corpus)
    runs: dict[str, Run] = {}
    if sources.run is not None:
        runs[sources.run.name] = _own_run(sources.run, queries, corpus, depth)
    runs["BM25"] = bm25_run(queries, corpus, depth)
    return Material(queries, corpus, runs, qrels)


def compare(material: Material, rank: Rank, on_passages: Callable[[int], object] | None = None) -> list[Comparison]:
    """Rerank all lists.

    Args:
        material: Content of the files.
        rank: Function from query and passages to index and score of each, best first.
        on_passages: Called with the number of passages of each list that is done; None for nobody.

    Returns:
        A comparison for each retriever that found anything.

    Raises:
        DataError: No retriever found anything.
    """
    found = []
    for name, run in material.runs.items():
        lists = []
        for each in rerank_lists(material.queries, material.corpus, run, rank):
            lists.append(each)
            if on_passages is not None:
                on_passages(len(each.before))
        if lists:
            gained = gain(material.qrels, lists)
            found.append(compared(name, lists, material.queries, material.corpus, material.qrels, gained))
    if not found:
        raise DataError("no query shares a word with a document, so there is nothing to rerank")
    return found


def about(reranker: Reranker, material: Material, comparisons: list[Comparison]) -> About:
    """Collect the facts of a report's model and collection."""
    import torch

    num_judged = max((len(each.gain.by_query) for each in comparisons if each.gain is not None), default=0)
    return About(
        model=reranker.name,
        runtime=f"{reranker.backend} {reranker.dtype} on {reranker.device}",
        threads=torch.get_num_threads(),
        num_queries=len(material.queries),
        num_documents=len(material.corpus),
        judged=f"{num_judged} of them" if num_judged else "",
    )


def _own_run(path: Path, queries: Mapping[str, str], corpus: Mapping[str, str], depth: int) -> Run:
    found = read_run(path)
    if not found.keys() & queries.keys():
        raise DataError(f"{named(path)}: has results for none of the {len(queries)} queries")
    kept = {query_id: tuple(name for name in found.get(query_id, ()) if name in corpus) for query_id in queries}
    if not any(kept.values()):
        raise DataError(f"{named(path)}: names no document of the corpus")
    return {query_id: names[:depth] for query_id, names in kept.items()}


def _qrels(sources: Sources, queries: Mapping[str, str], corpus: Mapping[str, str]) -> Qrels:
    source = sources.judgements or sources.log
    if source is None:
        return {}
    found = logged_qrels(source, queries, corpus) if sources.judgements is None else read_qrels(source)
    check_known(found, queries, source)
    return found
