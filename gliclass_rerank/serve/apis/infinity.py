"""Infinity's /rerank."""

from __future__ import annotations

from collections.abc import Sequence

from gliclass_rerank.serve.apis.shapes import CohereShaped, RerankBody, Reranked
from gliclass_rerank.serve.core import RerankAnswer


class InfinityBody(RerankBody):
    """Request."""

    raw_scores: bool = False


class Infinity(CohereShaped):
    """Infinity's API, whose documents are strings."""

    body = InfinityBody

    def __init__(self) -> None:
        super().__init__("string")

    def score(self, body: RerankBody, logit: float, score: float) -> float:
        """Probability, or the logit if raw scores are wanted."""
        return logit if isinstance(body, InfinityBody) and body.raw_scores else score

    def answer(self, body: RerankBody, answers: Sequence[RerankAnswer], request_id: str) -> Reranked:
        """Results, as an object called `rerank`."""
        return super().answer(body, answers, request_id).model_copy(update={"object": "rerank"})
