"""Search in a store: the index proposes, the records decide.

An index may compress vectors, miss some, and knows no metadata. Similarities of its neighbours are therefore recomputed
and filtered from the records, and the index is queried deeper while better ones could follow; when that would be no
faster than a full scan, everything is scanned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.examples.cached_index import CachedIndex
from gliclass_rerank.examples.filters import Filter
from gliclass_rerank.examples.index import FloatArray, IntArray, VectorIndex
from gliclass_rerank.examples.records import Records
from gliclass_rerank.examples.rows import Stored
from gliclass_rerank.types import Example

_MIN_DEPTH: Final = 32
_MAX_DEPTH: Final = 2048
_DEEPER: Final = 4
_SPARE: Final = 5
# Similarities are rounded: further digits depend on machine and batch size, and
# ties must stay ties.
_DECIMALS: Final = 6
_SCAN_ROWS: Final = 4096
_WALK_ROWS: Final = 64


@dataclass(frozen=True)
class Found:
    """Search hit.

    Attributes:
        id: Id of the example.
        example: Example.
        similarity: Cosine of text and query, in [-1, 1], rounded to six decimals.
        metadata: Stored metadata, a copy.
    """

    id: str
    example: Example
    similarity: float
    metadata: dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Question:
    """Single search.

    Attributes:
        vector: FloatArray [dim]. Unit length.
        k: Maximum number of examples.
        min_similarity: Minimum similarity.
        filter: Conditions on examples.
    """

    vector: FloatArray
    k: int
    min_similarity: float
    filter: Filter


@dataclass(frozen=True)
class Candidates:
    """Proposals of an index, verified against the records.

    Attributes:
        stored: Examples read, by row number: the similar enough ones, or the best of them.
        similarities: Similarities by row number.
        lowest: Lowest similarity examined.
        is_all: Everything was examined.
        is_deepest: A deeper search would find nothing more.
    """

    stored: dict[int, Stored]
    similarities: dict[int, float]
    lowest: float
    is_all: bool
    is_deepest: bool

    def best(self, question: Question) -> list[Found] | None:
        """Choose the answer; None if unproposed examples could belong to it."""
        found = [
            _found(stored, self.similarities[row])
            for row, stored in self.stored.items()
            if question.filter.accepts(stored)
        ]
        best = sorted(found, key=_order)[: question.k]
        if self.is_all or self.lowest < question.min_similarity:
            return best
        # At equal similarity, an id that sorts first may be further down.
        return best if len(best) == question.k and self.lowest < best[-1].similarity else None


def answer(cached: CachedIndex, records: Records, questions: Sequence[Question]) -> list[list[Found]]:
    """Search; the questions share one `k`.

    Args:
        cached: Index of the records.
        records: Records of the store.
        questions: At least one.

    Returns:
        Matching examples per question, most similar first, ties by id.
    """
    answers: dict[int, list[Found]] = {}
    unanswered = list(range(len(questions)))
    depth = cached.using(_first_depth, questions[0].k)
    # Reading an example costs more than finding it; without a filter only the best ones are needed.
    num_read = questions[0].k + _SPARE
    while unanswered and depth <= _MAX_DEPTH:
        proposed = cached.using(propose, records, [questions[number] for number in unanswered], depth, num_read)
        # Filters are the caller's code, so they run without locks.
        deeper = []
        for number, candidates in zip(unanswered, proposed, strict=True):
            best = candidates.best(questions[number])
            if best is None and not candidates.is_deepest:
                deeper.append(number)
            else:
                answers[number] = scan(records, questions[number]) if best is None else best
        unanswered = deeper
        depth *= _DEEPER
        num_read = depth
    answers |= {number: scan(records, questions[number]) for number in unanswered}
    return [answers[number] for number in range(len(questions))]


def _first_depth(index: VectorIndex, k: int) -> int:
    return max(_MIN_DEPTH, 2 * k, k * index.oversampling)


def propose(
    index: VectorIndex, records: Records, questions: Sequence[Question], depth: int, num_read: int
) -> list[Candidates]:
    """Query the index, then the records, while nothing is written.

    Args:
        index: Index of the records.
        records: Records of the store.
        questions: At least one.
        depth: Neighbours per question.
        num_read: Examples to read per question, the most similar.

    Returns:
        Candidates per question.
    """
    num_held = len(index)
    neighbours = index.search(np.stack([question.vector for question in questions]), depth)
    results = []
    for question, (_, rows) in zip(questions, neighbours, strict=True):
        held_rows, vectors = records.vectors(rows)
        values = similarities(vectors, question.vector)
        best = np.argsort(-values, kind="stable")[:num_read]
        lowest = float(values[best].min(initial=1.0))
        best = best[values[best] >= question.min_similarity]
        close = dict(zip(held_rows[best].tolist(), values[best].tolist(), strict=True))
        is_cut = num_read < len(rows)
        results.append(
            Candidates(
                stored=records.read(list(close)),
                similarities=close,
                lowest=lowest,
                is_all=not is_cut and len(rows) >= num_held,
                is_deepest=not is_cut and len(rows) < depth,
            )
        )
    return results


def scan(records: Records, question: Question) -> list[Found]:
    """Answer a question from every record; concurrent changes may or may not be seen."""
    rows, values = _all_similarities(records, question)
    order = np.argsort(-values, kind="stable")
    rows, values = rows[order], values[order]
    found: list[Found] = []
    for start in range(0, len(rows), _WALK_ROWS):
        page, page_values = rows[start : start + _WALK_ROWS].tolist(), values[start : start + _WALK_ROWS].tolist()
        if len(found) >= question.k and page_values[0] < sorted(found, key=_order)[question.k - 1].similarity:
            break
        stored = records.read(page)
        found += [
            _found(stored[row], value)
            for row, value in zip(page, page_values, strict=True)
            if row in stored and question.filter.accepts(stored[row])
        ]
    return sorted(found, key=_order)[: question.k]


def _all_similarities(records: Records, question: Question) -> tuple[IntArray, NDArray[np.float64]]:
    """All rows that pass threshold and metadata filter, with their similarities."""
    found_rows, found_values = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    where = question.filter.where
    if where is None:
        chunks = records.chunks()
    else:
        fitting = np.array(
            [row for row, metadata in records.metadata(question.filter.fragments) if where(metadata)], dtype=np.int64
        )
        chunks = (records.vectors(fitting[start : start + _SCAN_ROWS]) for start in range(0, len(fitting), _SCAN_ROWS))
    for rows, vectors in chunks:
        values = similarities(vectors, question.vector)
        is_similar = values >= question.min_similarity
        found_rows.append(rows[is_similar])
        found_values.append(values[is_similar])
    return np.concatenate(found_rows), np.concatenate(found_values)


def similarities(vectors: FloatArray, query: FloatArray) -> NDArray[np.float64]:
    """Cosines of unit vectors [num_vectors, dim] with a unit vector [dim], float64, rounded to six decimals."""
    products = vectors.astype(np.float64) @ query.astype(np.float64)
    rounded: NDArray[np.float64] = np.round(products, _DECIMALS) + 0.0  # no -0.0
    return np.clip(rounded, -1.0, 1.0)


def _found(stored: Stored, similarity: float) -> Found:
    return Found(stored.id, stored.example, similarity, stored.metadata)


def _order(found: Found) -> tuple[float, str]:
    return -found.similarity, found.id
