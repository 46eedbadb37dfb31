"""Example sources over third-party vector stores, for framework adapters.

A judged example is a document: its text is the document's, its labels are metadata under `TRUE_LABELS` and
`FALSE_LABELS`. `example_metadata` writes them as JSON text, because not every store keeps lists; lists are read too.

Stores report similarity in many ways: cosine, distance, inner product, a "relevance" in [0, 1]. Thresholds are cosines,
computed from vectors unless the source converts scores.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np

from gliclass_rerank.checks import as_number, checked_cosine, checked_count, checked_text, checked_texts
from gliclass_rerank.errors import BackendError, ConfigError, InputError, shown
from gliclass_rerank.examples.filters import Where, make_filter
from gliclass_rerank.examples.index import FloatArray
from gliclass_rerank.examples.source import Neighbour, NeighbourFinder, failures_named
from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.text_models.interfaces import unit_length
from gliclass_rerank.types import Example

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FALSE_LABELS", "TRUE_LABELS", "ForeignExampleSource", "example_metadata"]

TRUE_LABELS: Final = "true_labels"
FALSE_LABELS: Final = "false_labels"

# Some services return a few thousand documents at most; more judgements of one query are unlikely.
_MAX_FETCHED: Final = 1000
# Rounding tolerance of a cosine.
_TOLERANCE: Final = 1e-3

Vector = Sequence[float]
DocumentT = TypeVar("DocumentT")


@dataclass(frozen=True)
class _Candidate(Generic[DocumentT]):
    document: DocumentT
    example: Example
    score: float | None


def example_metadata(example: Example) -> dict[str, str]:
    """Convert an example's labels to metadata: two JSON lists as text, under `TRUE_LABELS` and `FALSE_LABELS`."""
    return {
        TRUE_LABELS: json.dumps(example.true_labels, ensure_ascii=False),
        FALSE_LABELS: json.dumps(example.false_labels, ensure_ascii=False),
    }


class ForeignExampleSource(NeighbourFinder, Generic[DocumentT]):
    """`ExampleSource` over another library's store; as thread-safe as the store.

    A subclass searches, reads documents and embeds. Exceptions of the store become `BackendError`, so that an outage
    does not stop a pipeline that keeps the order on errors.

    Args:
        to_cosine: Function from a store's score to a cosine; None computes cosines from vectors.

    Raises:
        ConfigError: `to_cosine` is not a function.
    """

    def __init__(self, to_cosine: Callable[[float], float] | None = None) -> None:
        if to_cosine is not None and not callable(to_cosine):
            raise ConfigError(f"`to_cosine` must be a function of a score, or None, got {shown(to_cosine)}")
        self._to_cosine = to_cosine

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:  # Any: Python's
        return self  # immutable, and a second copy of a store would be useless

    @abstractmethod
    def _query_vector(self, text: str) -> Vector | None:
        """Embed a text as a query of the store; None if neither search nor cosine needs it."""

    @abstractmethod
    def _search(self, text: str, vector: Vector | None, count: int) -> Sequence[tuple[DocumentT, float | None]]:
        """Find up to `count` documents with scores, best first; only `to_cosine` uses the scores."""

    @abstractmethod
    def _content(self, document: DocumentT) -> tuple[str | None, Mapping[str, Any]]:  # Any: whatever metadata hold
        """Text and metadata of a document."""

    @abstractmethod
    def _document_vectors(self, documents: Sequence[DocumentT]) -> Sequence[Vector]:
        """Vectors of documents, for several searches at once; unused with `to_cosine`."""

    def find_neighbours(
        self,
        texts: Sequence[str],
        k: int,
        min_similarity: float,
        *,
        allow_equal: bool = False,
        where: Where = None,
    ) -> list[list[Neighbour]]:
        """Find the examples whose texts are most similar, with their cosines.

        The store's ranking selects the `k`; threshold and order use cosines, ties keep the store's order. Without
        `allow_equal` or with `where`, up to 1,000 documents are read to skip others. A document that is not an example
        is a `BackendError`.
        """
        asked, wanted = checked_texts("texts", texts), checked_count("k", k)
        least = checked_cosine("min_similarity", min_similarity)
        fits = make_filter(where, (), None).where
        with failures_named():
            vectors = [self._query_vector(text) for text in asked]
            found = [
                self._nearest(text, vector, wanted, None if allow_equal else text_identity(text), fits)
                for text, vector in zip(asked, vectors, strict=True)
            ]
            cosines = iter(self._cosines(vectors, found))
        ranked = (
            sorted((Neighbour(one.example, next(cosines)) for one in candidates), key=lambda each: -each.similarity)
            for candidates in found
        )
        return [[each for each in neighbours if each.similarity >= least] for neighbours in ranked]

    def _nearest(
        self,
        text: str,
        vector: Vector | None,
        k: int,
        excluded: str | None,
        fits: Callable[[Mapping[str, Any]], bool] | None,  # Any: whatever metadata hold
    ) -> list[_Candidate[DocumentT]]:
        """The store's first `k` documents that fit, without those of an excluded text."""
        takes_all = excluded is None and fits is None
        count, num_before = k if takes_all else 2 * k, 0
        while True:
            hits = self._search(text, vector, count)
            found = [_Candidate(document, self._example(document), score) for document, score in hits]
            others = [
                one
                for one in found
                if (excluded is None or text_identity(one.example.text) != excluded)
                and (fits is None or fits(self._content(one.document)[1]))
            ]
            # A store may return fewer than it has, such as one of each kind: only a search without progress is the end.
            if takes_all or len(others) >= k or len(found) <= num_before or count >= _MAX_FETCHED:
                return others[:k]
            count, num_before = min(2 * count, _MAX_FETCHED), len(found)

    def _example(self, document: DocumentT) -> Example:
        text, metadata = self._content(document)
        try:
            labels = _labels(metadata)
            return Example(checked_text("the text", text), labels[TRUE_LABELS], labels[FALSE_LABELS])
        except InputError as error:
            raise BackendError(f"the store returned a document that is no example, {shown(text)}: {error}") from None

    def _cosines(
        self, vectors: Sequence[Vector | None], found: Sequence[Sequence[_Candidate[DocumentT]]]
    ) -> list[float]:
        """Cosines of all candidates, text by text."""
        flat = [one for candidates in found for one in candidates]
        if self._to_cosine is not None:
            return [_translated(self._to_cosine, one.score) for one in flat]
        if not flat:
            return []
        queries = _unit_rows([vector for vector, candidates in zip(vectors, found, strict=True) for _ in candidates])
        documents = _unit_rows(self._document_vectors([one.document for one in flat]))
        if queries.shape != documents.shape:
            raise BackendError(
                f"queries and documents must have as many vectors of one length, got the shapes "
                f"{list(queries.shape)} and {list(documents.shape)}"
            )
        return [float(cosine) for cosine in np.einsum("ij,ij->i", queries, documents)]


def _labels(metadata: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:  # Any: whatever metadata hold
    if TRUE_LABELS not in metadata and FALSE_LABELS not in metadata:
        raise InputError(
            f"its metadata must have `{TRUE_LABELS}` or `{FALSE_LABELS}`, got the keys "
            f"{shown(sorted(map(str, metadata)))}"
        )
    return {name: _label_list(name, metadata.get(name)) for name in (TRUE_LABELS, FALSE_LABELS)}


def _label_list(name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            labels = json.loads(value)
        except (ValueError, RecursionError):
            labels = value  # refused below
    else:
        labels = value
    if isinstance(labels, str):
        raise InputError(f"`{name}` must be a list of strings, or one as JSON text, got {shown(value)}")
    return checked_texts(name, labels)


def _translated(to_cosine: Callable[[float], float], score: float | None) -> float:
    if score is None:
        raise BackendError("the store returned a document without a score, so `to_cosine` cannot be used")
    cosine = as_number(to_cosine(score))
    if cosine is None or not -1 - _TOLERANCE <= cosine <= 1 + _TOLERANCE:  # NaN is refused too
        raise BackendError(
            f"`to_cosine` must return a cosine, in [-1, 1], got {shown(cosine)} for the score {shown(score)}"
        )
    return cosine


def _unit_rows(vectors: Sequence[Vector | None]) -> FloatArray:
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise BackendError(f"vectors must be finite numbers and of one length, got the shape {list(rows.shape)}")
    return unit_length(rows)
