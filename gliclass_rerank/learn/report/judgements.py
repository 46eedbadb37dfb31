"""Judgements of a report: what a feedback log tells, and whether judgements concern its queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.feedback.log import FeedbackLog
from gliclass_rerank.learn.evaluation.collection import Qrels


def logged_qrels(path: Path, queries: Mapping[str, str], corpus: Mapping[str, str]) -> Qrels:
    """Grades that a feedback log gives to documents, found by their texts.

    A click counts 1, a grade and a judgement as given; the newest one of a document wins.

    Args:
        path: Feedback log with texts.
        queries: Text by id.
        corpus: Text by id.

    Returns:
        Grade by query and document; what is not in `queries` or `corpus` is left out.

    Raises:
        InputError: There is no such file.
        DataError: It is no feedback log.
    """
    if not path.is_file():
        raise InputError(f"`--log` must name a feedback log, got '{named(path)}'")
    query_ids = {text_identity(text): name for name, text in queries.items()}
    doc_ids = {text_identity(text): name for name, text in corpus.items()}
    found: dict[str, dict[str, int]] = {}
    with FeedbackLog(path) as log:
        for query, passage, grade in _graded(log):
            query_id, doc_id = query_ids.get(text_identity(query)), doc_ids.get(text_identity(passage))
            if query_id is not None and doc_id is not None:
                found.setdefault(query_id, {})[doc_id] = grade
    return found


def check_known(qrels: Qrels, queries: Mapping[str, str], source: Path) -> None:
    """Check that judgements concern the queries; a `DataError` if none does."""
    if not qrels.keys() & queries.keys():
        raise DataError(f"{named(source)}: judges none of the {len(queries)} queries")


def _graded(log: FeedbackLog) -> Iterator[tuple[str, str, int]]:
    """Query, passage and grade of each signal with texts, oldest first."""
    lists = {
        ranking.id: (ranking.query, {passage.index: passage.text for passage in ranking.shown})
        for ranking in log.rankings()
    }
    for signal in log.signals():
        query, text = signal.query, signal.text
        if signal.ranking_id is not None and signal.index is not None and signal.ranking_id in lists:
            query, texts = lists[signal.ranking_id]
            text = texts.get(signal.index)
        if signal.kind != "rating" and query is not None and text is not None:
            yield query, text, round(signal.value)
