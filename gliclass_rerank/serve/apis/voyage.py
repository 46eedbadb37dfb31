"""Voyage's /v1/rerank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from gliclass_rerank.serve.apis.api import STATUS, Body, RerankApi
from gliclass_rerank.serve.apis.shapes import Count, Result, passages, usage
from gliclass_rerank.serve.core import RequestError, RerankAnswer, RerankRequest


class VoyageBody(Body):
    """Request."""

    query: str
    documents: list[str]
    model: str | None = None
    top_k: Count | None = None
    return_documents: bool = False
    truncation: bool = True


class VoyageUsage(BaseModel):
    """Tokens read by the model."""

    total_tokens: int


class VoyageAnswer(BaseModel):
    """Results, best first."""

    object: Literal["list"] = "list"
    data: list[Result]
    model: str
    usage: VoyageUsage


class Voyage(RerankApi[VoyageBody]):
    """Voyage's API."""

    body = VoyageBody
    content = VoyageAnswer

    def requests(self, body: VoyageBody) -> list[RerankRequest]:
        """One ranking."""
        return [
            RerankRequest(
                body.query,
                passages(body.documents),
                model=body.model,
                top_k=body.top_k or None,
                may_truncate=body.truncation,
            )
        ]

    def answer(self, body: VoyageBody, answers: Sequence[RerankAnswer], request_id: str) -> VoyageAnswer:  # noqa: ARG002
        """Results under `data`."""
        (answer,) = answers
        return VoyageAnswer(
            data=[
                Result(
                    index=hit.index,
                    relevance_score=hit.score,
                    document=body.documents[hit.index] if body.return_documents else None,
                )
                for hit in answer.hits
            ],
            model=answer.model,
            usage=VoyageUsage(total_tokens=usage(answers).total_tokens),
        )

    def error(self, problem: RequestError) -> tuple[int, Any]:
        """`{"detail": ...}`."""
        return STATUS[problem.kind], {"detail": str(problem)}
