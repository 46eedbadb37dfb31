"""Cohere's /v1/rerank and /v2/rerank."""

from __future__ import annotations

from typing import Any

from gliclass_rerank.serve.apis.api import STATUS
from gliclass_rerank.serve.apis.shapes import CohereShaped, RerankBody
from gliclass_rerank.serve.core import RequestError, RerankRequest


class CohereBody(RerankBody):
    """Request of either version; limits on a document's length are the model's own."""

    relevant_spans: Any = None  # Any: refused
    max_chunks_per_doc: int | None = None
    max_tokens_per_doc: int | None = None
    priority: int | None = None


class Cohere(CohereShaped):
    """Cohere's API."""

    body = CohereBody

    def requests(self, body: RerankBody) -> list[RerankRequest]:
        """One ranking."""
        assert isinstance(body, CohereBody), "the body of this API"
        if body.relevant_spans is not None:
            raise RequestError("invalid", "`relevant_spans` is not supported by this server, leave it out")
        return super().requests(body)

    def error(self, problem: RequestError) -> tuple[int, Any]:
        """`{"message": ...}`."""
        return STATUS[problem.kind], {"message": str(problem)}
