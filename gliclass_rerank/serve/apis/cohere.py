"""Cohere's /v1/rerank and /v2/rerank."""

from __future__ import annotations

from typing import Any

from gliclass_rerank.serve.apis.api import STATUS
from gliclass_rerank.serve.apis.shapes import CohereShaped, RerankBody
from gliclass_rerank.serve.core import RequestError


class CohereBody(RerankBody):
    """Request of either version; limits on a document's length are the model's own."""

    max_chunks_per_doc: int | None = None
    max_tokens_per_doc: int | None = None
    priority: int | None = None


class Cohere(CohereShaped):
    """Cohere's API."""

    body = CohereBody

    def error(self, problem: RequestError) -> tuple[int, Any]:
        """`{"message": ...}`."""
        return STATUS[problem.kind], {"message": str(problem)}
