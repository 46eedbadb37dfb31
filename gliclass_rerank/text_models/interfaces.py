"""What mining and teaching ask of a model."""

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
# A query and its passages.
QueryPassages = tuple[str, Sequence[str]]


@dataclass(frozen=True)
class Scored:
    """Scores of several asks.

    Attributes:
        scores: For each ask one score a passage, higher is better.
        num_tokens: Tokens the model read, without padding.
    """

    scores: list[list[float]]
    num_tokens: int


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts.

    Attributes:
        vectors: FloatArray [num_texts, embed_dim]. Of unit length, so that dot products are cosines.
        num_tokens: Tokens the model read, without padding.
    """

    vectors: FloatArray
    num_tokens: int


class Teacher(Protocol):
    """Scores passages for queries."""

    @property
    def is_logit(self) -> bool:
        """Whether scores are logits; otherwise they are similarities, positive for anything related."""
        ...

    def score(self, asks: Sequence[QueryPassages]) -> Scored:
        """Score the passages of several asks together.

        Args:
            asks: Each may have any number of passages, none included.

        Returns:
            The scores, all of them finite.

        Raises:
            BackendError: The forward pass failed.
        """
        ...


class TextEncoder(Protocol):
    """Turns texts into vectors whose dot products say how well a passage fits a query."""

    def encode(self, texts: Sequence[str], role: Role) -> Embedded:
        """Embed texts.

        Args:
            texts: Any strings; may be empty.
            role: What the texts are; many models want different prefixes for the two.

        Returns:
            The vectors in the order of the texts.

        Raises:
            BackendError: The forward pass failed.
        """
        ...


def pairs_of(asks: Sequence[QueryPassages], options: ModelOptions) -> list[tuple[str, str]]:
    """All pairs of a query and one of its passages, ask by ask, with the model's prefixes."""
    before, ahead = options.query_prefix, options.passage_prefix
    return [(before + query, ahead + passage) for query, passages in asks for passage in passages]


def set_torch_threads(threads: int | None) -> None:
    """Set how many threads torch uses, in the whole process; None leaves them."""
    if threads is not None:
        require("torch", extra="mining").set_num_threads(threads)


def by_ask(values: Sequence[Any] | NDArray[Any], asks: Sequence[QueryPassages]) -> list[list[float]]:  # Any: numbers
    """Split the scores of `pairs_of` into one list an ask.

    Args:
        values: One number a pair.
        asks: What was asked.

    Returns:
        The scores of each ask's passages.

    Raises:
        BackendError: A score is not finite.
    """
    scores = [float(value) for value in values]
    broken = next((score for score in scores if not math.isfinite(score)), None)
    if broken is not None:
        raise BackendError(f"the teacher gave {broken} as a score; its weights or its precision are at fault")
    results, start = [], 0
    for _, passages in asks:
        results.append(scores[start : start + len(passages)])
        start += len(passages)
    return results


def in_text_order(vectors: Mapping[int, FloatArray], num_tokens: int) -> Embedded:
    """Put vectors that were made in another order back.

    Args:
        vectors: By position of the text, FloatArray [embed_dim] each; may be empty.
        num_tokens: Tokens read for them.

    Returns:
        The vectors in the order of the texts.
    """
    stacked = [vectors[row] for row in range(len(vectors))]
    return Embedded(np.stack(stacked) if stacked else np.zeros((0, 0), dtype=np.float32), num_tokens)


def unit_length(vectors: FloatArray) -> FloatArray:
    """Scale vectors to length 1; FloatArray [..., embed_dim] to the same shape. Zero vectors stay zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: FloatArray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
