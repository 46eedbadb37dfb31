"""Haystack documents to texts and back; nothing here changes what it is given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from haystack import Document

from gliclass_rerank import RerankStage, StageRanking
from gliclass_rerank.adapters import checked_items, owned, reading, text_with_metadata


def deduplicated(documents: Iterable[Document]) -> list[Document]:
    """Keep one document an id, as Haystack's own rankers do: several retrievers may feed one ranker.

    Args:
        documents: What the retrievers found.

    Returns:
        For each id the document with the highest score, the first of them if there are several, at the place where
        the id came up first. A document without a score is below any that has one.

    Raises:
        InputError: Not a list of documents.
    """
    best: dict[str, Document] = {}
    for document in checked_items("documents", documents, Document):
        with reading("a document's id"):
            known = best.get(document.id)
        if known is None or _score(document) > _score(known):
            best[document.id] = document
    return list(best.values())


def shown_text(document: Document, meta_fields: Sequence[str], separator: str) -> str:
    """The text that is ranked: the values of the metadata fields, then the content.

    Args:
        document: Content None (a document that holds a blob) counts as an empty text.
        meta_fields: Fields that are missing or None are skipped; 0 and False are kept.
        separator: Put between the parts.

    Returns:
        The text; blank if there is nothing to rank.
    """
    return text_with_metadata(document.content, document.meta, meta_fields, separator)


def reranked(documents: Sequence[Document], ranking: StageRanking, stage: RerankStage) -> list[Document]:
    """Copies of the documents in the ranking's order, with its scores and notes.

    Args:
        documents: What was ranked.
        ranking: The stage's answer.
        stage: Writes the notes.

    Returns:
        Documents with the ids they had and metadata of their own; embeddings and blob are shared with the originals.
    """
    return [
        replace(
            documents[hit.index],
            score=documents[hit.index].score if hit.score is None else hit.score,
            meta={**owned(documents[hit.index].meta), **stage.notes(hit, ranking)},
        )
        for hit in ranking
    ]


def _score(document: Document) -> float:
    score = document.score
    try:
        # Haystack checks types when components are connected, not what a caller passes to `run`.
        return -math.inf if score is None or isinstance(score, (str, bytes)) else float(score)
    except Exception:  # noqa: BLE001 - the stage says what is wrong with it
        return -math.inf
