"""Interfaces of teachers and encoders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank._imports import require
from gliclass_rerank.errors import BackendError
from gliclass_rerank.text_models.options import ModelOptions

FloatArray = NDArray[np.float32]
Role = Literal["query", "passage"]
# Query and its passages.
QueryPassages = tuple[str, Sequence[str]]


@dataclass(frozen=True)
class Scored:
    """Scores of several queries.

    Attributes:
        scores: One score per passage for each query, higher is better.
        num_tokens: Tokens read, without padding.
    """

    scores: list[list[float]]
    num_tokens: int


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts.

    Attributes:
        vectors: FloatArray [num_texts, embed_dim], of unit length.
        num_tokens: Tokens read, without padding.
    """

    vectors: FloatArray
    num_tokens: int


class Teacher(Protocol):
    """Scorer of passages for queries."""

    @property
    def is_logit(self) -> bool:
        """True for logits; False for similarities, positive for anything related."""
        ...

    def score(self, asks: Sequence[QueryPassages]) -> Scored:
        """Score the passages of several queries together.

        Args:
            asks: Queries, each with any number of passages.

        Returns:
            Finite scores.

        Raises:
            BackendError: The forward pass failed.
        """
        ...


class TextEncoder(Protocol):
    """Encoder of texts to vectors whose dot products measure relevance."""

    def encode(self, texts: Sequence[str], role: Role) -> Embedded:
        """Embed texts.

        Args:
            texts: Any strings; may be empty.
            role: Query or passage, which selects the prefix.

        Returns:
            Vectors in the order of the texts.

        Raises:
            BackendError: The forward pass failed.
        """
        ...


def pairs_of(asks: Sequence[QueryPassages], options: ModelOptions) -> list[tuple[str, str]]:
    """All query-passage pairs, query by query, with the model's prefixes."""
    before, ahead = options.query_prefix, options.passage_prefix
    return [(before + query, ahead + passage) for query, passages in asks for passage in passages]


def set_torch_threads(threads: int | None) -> None:
    """Set torch's process-wide thread count; None keeps it."""
    if threads is not None:
        require("torch", extra="mining").set_num_threads(threads)


def by_ask(values: Sequence[Any] | NDArray[Any], asks: Sequence[QueryPassages]) -> list[list[float]]:  # Any: numbers
    """Split the scores of `pairs_of` by query.

    Args:
        values: One number per pair.
        asks: Queries with their passages.

    Returns:
        Scores of each query's passages.

    Raises:
        BackendError: A score is not finite.
    """
    scores = [float(value) for value in values]
    broken = next((score for score in scores if not math.isfinite(score)), None)
    if broken is not None:
        raise BackendError(f"the teacher gave {broken} as a score; check its weights and precision")
    results, start = [], 0
    for _, passages in asks:
        results.append(scores[start : start + len(passages)])
        start += len(passages)
    return results


def in_text_order(vectors: Mapping[int, FloatArray], num_tokens: int) -> Embedded:
    """Restore the order of vectors, FloatArray [embed_dim] by text position."""
    stacked = [vectors[row] for row in range(len(vectors))]
    return Embedded(np.stack(stacked) if stacked else np.zeros((0, 0), dtype=np.float32), num_tokens)


def unit_length(vectors: FloatArray) -> FloatArray:
    """Normalise vectors FloatArray [..., embed_dim] to length 1; zero vectors stay zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: FloatArray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
