"""Requests and answers between the APIs and the models, and the problems that both can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gliclass_rerank.errors import GLiClassRerankError
from gliclass_rerank.types import Hit, Ranking, Truncation

ProblemKind = Literal["empty", "invalid", "too_large", "unauthorized", "not_found", "overloaded", "failed"]


class RequestError(GLiClassRerankError):
    """Request that cannot be answered.

    Args:
        kind: Reason, which each API has its own status and words for.
        message: One sentence for the caller.
        retry_after: Seconds after which a retry may succeed; None if it cannot.
    """

    def __init__(self, kind: ProblemKind, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.kind: ProblemKind = kind
        self.retry_after = retry_after


@dataclass(frozen=True)
class RerankRequest:
    """Ranking to compute.

    Attributes:
        query: Query.
        passages: Passages in the caller's order.
        model: Name of the model; None or an unknown one for the default.
        top_k: Maximum number of hits; None for all.
        may_truncate: Accept texts that are too long; else they are an error.
        spans: Score the sentences of the hits too.
    """

    query: str
    passages: tuple[str, ...]
    model: str | None = None
    top_k: int | None = None
    may_truncate: bool = True
    spans: bool = False


@dataclass(frozen=True)
class Scores:
    """Scores of a request's passages; what the cache keeps.

    Attributes:
        hits: All passages, best first.
        truncated: Truncated passages.
        truncated_query: Truncation of the query; None if it is whole.
        num_tokens: Tokens that the model read of query and passages.
    """

    hits: tuple[Hit, ...]
    truncated: tuple[Truncation, ...]
    truncated_query: Truncation | None
    num_tokens: int


@dataclass(frozen=True)
class Timing:
    """Seconds that a request spent.

    Attributes:
        queue_s: Waiting for its batch.
        inference_s: In the model, together with its batch.
    """

    queue_s: float = 0.0
    inference_s: float = 0.0

    def __add__(self, other: Timing) -> Timing:
        return Timing(self.queue_s + other.queue_s, self.inference_s + other.inference_s)


@dataclass(frozen=True)
class RerankAnswer:
    """Computed ranking.

    Attributes:
        model: Name of the model that ranked.
        hits: At most `top_k` passages, best first.
        num_passages: Passages of the request.
        num_tokens: Tokens that the model read of query and passages.
        timing: Seconds spent.
        is_cached: The scores came from the cache.
        id: Id in the feedback log; None without one.
    """

    model: str
    hits: tuple[Hit, ...]
    num_passages: int
    num_tokens: int
    timing: Timing
    is_cached: bool = False
    id: str | None = None


@dataclass(frozen=True)
class ExplainRequest:
    """Ranking to compute and to explain.

    Attributes:
        query: Query.
        passages: Passages in the caller's order.
        model: Name of the model; None or an unknown one for the default.
        spans: Find the characters that carry each score.
    """

    query: str
    passages: tuple[str, ...]
    model: str | None = None
    spans: bool = True


@dataclass(frozen=True)
class Explanation:
    """Explained ranking.

    Attributes:
        ranking: Ranking of all passages.
        answer: Its answer.
        spans_s: Seconds to find the spans.
    """

    ranking: Ranking
    answer: RerankAnswer
    spans_s: float


@dataclass(frozen=True)
class ClassifyRequest:
    """Text to score against labels.

    Attributes:
        text: Text.
        labels: Labels.
        prompt: Task description before the text; empty for none.
    """

    text: str
    labels: tuple[str, ...]
    prompt: str = ""
