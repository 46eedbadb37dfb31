"""Jina's /v1/rerank."""

from __future__ import annotations

from typing import Any

from gliclass_rerank.serve.apis.api import STATUS
from gliclass_rerank.serve.apis.shapes import CohereShaped, RerankBody
from gliclass_rerank.serve.core import RequestError, RerankRequest


class JinaBody(RerankBody):
    """Request; limits on a document's length are the model's own."""

    max_doc_length: int | None = None
    return_embeddings: bool = False


class Jina(CohereShaped):
    """Jina's API, which returns documents unless told otherwise."""

    body = JinaBody
    returns_documents = True

    def requests(self, body: RerankBody) -> list[RerankRequest]:
        """One ranking."""
        assert isinstance(body, JinaBody), "the body of this API"
        if body.return_embeddings:
            raise RequestError("invalid", "`return_embeddings` must be false, this server has no embeddings")
        return super().requests(body)

    def error(self, problem: RequestError) -> tuple[int, Any]:
        """`{"detail": ...}`."""
        status = 422 if problem.kind in ("invalid", "empty") else STATUS[problem.kind]
        return status, {"detail": str(problem)}
