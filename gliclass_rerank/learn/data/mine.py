"""Hard-negative mining, from collections and questions to a file of records.

Queries have a fixed random order and are processed in independent chunks, so a killed run repeats its last chunk and
ends with the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.errors import ConfigError, InputError, shown
from gliclass_rerank.learn.data.dense import DenseRetriever
from gliclass_rerank.learn.data.false_negatives import FalseNegatives
from gliclass_rerank.learn.data.partial import PartialFile, check_target
from gliclass_rerank.learn.data.passage_pool import Pool, load_pool
from gliclass_rerank.learn.data.progress import Progress, silent
from gliclass_rerank.learn.data.questions import Query, Sources, load_queries
from gliclass_rerank.learn.data.records import RankingRecord
from gliclass_rerank.learn.data.retrieval import Bm25Retriever, Retriever, interleaved
from gliclass_rerank.learn.data.sampling import Sampling
from gliclass_rerank.learn.data.selection import Dropped, Judge, Selector, TeacherJudge
from gliclass_rerank.text_models.interfaces import Teacher, TextEncoder

# Small enough to lose little to a kill, large enough to fill a teacher's batches.
_CHUNK_QUERIES: Final = 32


@dataclass(frozen=True, kw_only=True)
class Mining:
    """Settings of a mining run.

    Attributes:
        sources: Queries and passages.
        sampling: Sampling of negatives.
        false_negatives: Detection of false negatives.
        max_words: Maximum words per passage; None for no limit.
        titles: Prepend titles to passages.
        max_queries: Random sample size per source; None for all.
        bm25: Find candidates by BM25.
        language: Two-letter code of stemmer and stop words.
        models: Other settings that affect the result, as JSON values: encoder and teacher. A resumed run must have the
            same.
    """

    sources: Sources
    sampling: Sampling = field(default_factory=Sampling)
    false_negatives: FalseNegatives = field(default_factory=FalseNegatives)
    max_words: int | None = 200
    titles: bool = True
    max_queries: int | None = None
    bm25: bool = True
    language: str = "en"
    models: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

    def __post_init__(self) -> None:
        for name in ("max_words", "max_queries"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {value}")


@dataclass
class MiningReport:
    """Statistics of a mining run.

    Attributes:
        num_queries: Records in the file.
        num_judged: Records with a relevant passage.
        num_empty: Queries without a passage or record; this run only.
        num_short: Records with too few negatives.
        num_positives: Relevant passages.
        num_judged_negatives: Passages judged irrelevant.
        num_mined: Unjudged passages.
        num_passages: Distinct passages in the pool.
        num_repeated: Blank or duplicate documents, left out of the pool.
        num_resumed: Records of earlier runs.
        dropped: Suspected false negatives; this run only.
    """

    num_queries: int = 0
    num_judged: int = 0
    num_empty: int = 0
    num_short: int = 0
    num_positives: int = 0
    num_judged_negatives: int = 0
    num_mined: int = 0
    num_passages: int = 0
    num_repeated: int = 0
    num_resumed: int = 0
    dropped: Dropped = field(default_factory=Dropped)

    def count(self, record: RankingRecord, num_negatives: int) -> None:
        """Count a record, given its target number of negatives."""
        positives = sum(grade is not None and grade > 0 for grade in record.grades)
        mined = sum(grade is None for grade in record.grades)
        self.num_queries += 1
        self.num_judged += positives > 0
        self.num_short += len(record.grades) - positives < num_negatives
        self.num_positives += positives
        self.num_judged_negatives += len(record.grades) - positives - mined
        self.num_mined += mined


def mine(
    target: Path,
    mining: Mining,
    *,
    encoder: TextEncoder | None = None,
    teacher: tuple[str, Teacher] | None = None,
    progress: Progress = silent,
) -> MiningReport:
    """Find candidates for queries and write a record for each.

    Args:
        target: New `.jsonl` file. An unfinished run of the same name is resumed.
        mining: Settings of the run.
        encoder: Encoder that finds candidates too, and detects false negatives without a teacher.
        teacher: Name and model that detect false negatives; the records keep its scores.
        progress: Progress of passages encoded and queries done.

    Returns:
        Statistics.

    Raises:
        ConfigError: Neither BM25 nor an encoder is set, or a score share without a scorer.
        InputError: The target cannot be written, or belongs to a run with other settings.
        DataError: An input file is missing or malformed.
        BackendError: A model failed.
        MissingDependencyError: A package of the extra `mining` is not installed.
    """
    if not mining.bm25 and encoder is None:
        raise ConfigError("candidates must come from BM25 or an encoder, got neither")
    if mining.false_negatives.score_share is not None and encoder is None and teacher is None:
        raise ConfigError(
            f"`score_share` needs an encoder or a teacher that scores, got {mining.false_negatives.score_share} alone"
        )
    check_target(target, replacing=False)
    sources = mining.sources
    pool = load_pool(sources.folders, max_words=mining.max_words, titles=mining.titles)
    queries = load_queries(sources, pool, limit=mining.max_queries, seed=mining.sampling.seed)
    with PartialFile(target, _settings(mining, pool, queries)) as partial:
        retrievers: list[Retriever] = []
        dense = None
        if mining.bm25:
            retrievers.append(Bm25Retriever(pool.texts, language=mining.language))
        if encoder is not None:
            dense = DenseRetriever(pool.texts, encoder, cache=partial.scratch, progress=progress)
            retrievers.append(dense)
        selector = Selector(
            pool, mining.sampling, mining.false_negatives, _judge(mining.false_negatives, pool, dense, teacher)
        )
        report = MiningReport(num_passages=len(pool.texts), num_repeated=pool.num_documents - len(pool.texts))
        start = _resume(partial, queries, report, mining.sampling)
        with progress("queries", len(queries), start) as advance:
            for first in range(start, len(queries), _CHUNK_QUERIES):
                chunk = queries[first : first + _CHUNK_QUERIES]
                selected = selector.select(chunk, _candidates(retrievers, chunk, mining.sampling.depth))
                records = [record for record in selected if record is not None]
                report.num_empty += len(chunk) - len(records)
                for record in records:
                    report.count(record, mining.sampling.num_negatives)
                partial.append(records)
                advance(len(chunk))
        report.dropped = selector.dropped
        partial.finish()
    return report


def _settings(mining: Mining, pool: Pool, queries: Sequence[Query]) -> dict[str, Any]:  # Any: JSON
    """Settings that a resumed run must share; sizes stand for the contents of files."""
    fields = asdict(mining)
    del fields["sources"]
    sources = mining.sources
    return {
        "collections": list(map(str, sources.collections)),
        "corpora": list(map(str, sources.corpora)),
        "questions": list(map(str, sources.questions)),
        **fields,
        "num_passages": len(pool.texts),
        "passage_chars": sum(map(len, pool.texts)),
        "num_queries": len(queries),
        "query_chars": sum(len(query.text) for query in queries),
    }


def _judge(
    false_negatives: FalseNegatives,
    pool: Pool,
    dense: DenseRetriever | None,
    teacher: tuple[str, Teacher] | None,
) -> Judge | None:
    if teacher is not None:
        name, model = teacher
        return TeacherJudge(name, model, pool)
    if dense is not None and false_negatives.score_share is not None:
        return _DenseJudge(dense)
    return None


@dataclass(frozen=True)
class _DenseJudge:
    """Cosines of the retriever, too cheap to be kept."""

    retriever: DenseRetriever
    is_logit: bool = False
    teacher: str | None = None

    def score(self, asks: Sequence[tuple[str, Sequence[int]]]) -> list[list[float]]:
        return [self.retriever.similarities(query, indices) for query, indices in asks]


def _candidates(retrievers: Sequence[Retriever], queries: Sequence[Query], depth: int) -> list[list[int]]:
    found = [retriever.retrieve([query.text for query in queries], depth) for retriever in retrievers]
    return [interleaved(rankings, depth) for rankings in zip(*found, strict=True)]


def _resume(partial: PartialFile, queries: Sequence[Query], report: MiningReport, sampling: Sampling) -> int:
    """Count existing records and drop the last chunk, which may be incomplete.

    Args:
        partial: Existing lines.
        queries: All queries in order.
        report: Statistics, extended by the kept records.
        sampling: Sampling of negatives.

    Returns:
        Position of the first remaining query.
    """
    places = {query.id: place for place, query in enumerate(queries)}
    records = list(partial.records())
    for record in records:
        if record.query_id not in places:
            raise InputError(
                f"an unfinished run holds the query {shown(record.query_id)}, which is not among those read"
            )
    start = 0
    if records:
        start = places[str(records[-1].query_id)] // _CHUNK_QUERIES * _CHUNK_QUERIES
    kept = [record for record in records if places[str(record.query_id)] < start]
    for record in kept:
        report.count(record, sampling.num_negatives)
    report.num_resumed = len(kept)
    partial.keep(len(kept))
    return start
