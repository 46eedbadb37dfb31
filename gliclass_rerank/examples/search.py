"""Search in a store: the index proposes, the records decide.

An index may compress vectors, miss some, and know nothing of metadata. So its neighbours' similarities are computed
again from the records, filters are applied to the records, and as long as better ones could be further down, the index
is asked for more. When that has gone deep enough to be no quicker than looking at everything, everything is looked at.
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
from gliclass_rerank.examples.records import Records, Stored
from gliclass_rerank.types import Example

_MIN_DEPTH: Final = 32
_MAX_DEPTH: Final = 2048
_DEEPER: Final = 4
_SPARE: Final = 5
# Similarities are rounded: further digits depend on the machine and on how many vectors were multiplied at once, and
# ties are to be ties.
_DECIMALS: Final = 6
_SCAN_ROWS: Final = 4096
_WALK_ROWS: Final = 64


@dataclass(frozen=True)
class Found:
    """An example that a search found.

    Attributes:
        id: Its name.
        example: The example.
        similarity: Cosine of its text's vector with the query's, in [-1, 1], rounded to six decimals.
        metadata: What was stored with it; the caller's to change.
    """

    id: str
    example: Example
    similarity: float
    metadata: dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Question:
    """What one search asks.

    Attributes:
        vector: FloatArray [dim]. Of unit length.
        k: How many examples are wanted.
        min_similarity: The least similarity.
        filter: Which examples may be returned.
    """

    vector: FloatArray
    k: int
    min_similarity: float
    filter: Filter


@dataclass(frozen=True)
class Candidates:
    """What an index proposed for one question, as the records have it.

    Attributes:
        stored: The examples that were read, by row number: those that are similar enough, or the best of them.
        similarities: Their similarities, by row number.
        lowest: The lowest similarity of all that was looked at.
        is_all: Whether that was everything there is.
        is_deepest: Whether asking for more would bring nothing.
    """

    stored: dict[int, Stored]
    similarities: dict[int, float]
    lowest: float
    is_all: bool
    is_deepest: bool

    def best(self, question: Question) -> list[Found] | None:
        """Choose the answer.

        Args:
            question: What was asked.

        Returns:
            The answer, or None if examples that were not proposed could belong to it.
        """
        found = [
            _found(stored, self.similarities[row])
            for row, stored in self.stored.items()
            if question.filter.accepts(stored)
        ]
        best = sorted(found, key=_order)[: question.k]
        if self.is_all or self.lowest < question.min_similarity:
            return best
        # At equal similarity, an id that comes first may be further down.
        return best if len(best) == question.k and self.lowest < best[-1].similarity else None


def answer(cached: CachedIndex, records: Records, questions: Sequence[Question]) -> list[list[Found]]:
    """Search.

    Args:
        cached: The index of the records.
        records: The records.
        questions: At least one, and all of one `k`.

    Returns:
        For each question the examples that fit, most similar first, ties by id.
    """
    answers: dict[int, list[Found]] = {}
    unanswered = list(range(len(questions)))
    depth = cached.using(_first_depth, questions[0].k)
    # To read an example costs more than to find it, and without a filter the best ones are all that is needed.
    num_read = questions[0].k + _SPARE
    while unanswered and depth <= _MAX_DEPTH:
        proposed = cached.using(propose, records, [questions[number] for number in unanswered], depth, num_read)
        # Filters are the caller's code: they run when no lock is held.
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
    """ScoringRequest the index, then the records. Nothing may be written meanwhile.

    Args:
        index: The index of these records.
        records: The records.
        questions: At least one.
        depth: How many neighbours each shall have.
        num_read: How many examples to read for each: those that are most similar.

    Returns:
        Candidates, question by question.
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
    """Answer a question by looking at every record.

    Args:
        records: The records. What is written meanwhile may or may not be seen.
        question: What is asked.

    Returns:
        The answer.
    """
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
    """All rows that are similar enough and whose metadata fits, with their similarities."""
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
    """Cosines of unit vectors with a unit vector.

    Args:
        vectors: FloatArray [num_vectors, dim].
        query: FloatArray [dim].

    Returns:
        FloatArray [num_vectors], double precision, rounded to six decimals.
    """
    products = vectors.astype(np.float64) @ query.astype(np.float64)
    rounded: NDArray[np.float64] = np.round(products, _DECIMALS) + 0.0  # no -0.0
    return np.clip(rounded, -1.0, 1.0)


def _found(stored: Stored, similarity: float) -> Found:
    return Found(stored.id, stored.example, similarity, stored.metadata)


def _order(found: Found) -> tuple[float, str]:
    return -found.similarity, found.id
