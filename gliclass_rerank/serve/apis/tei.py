"""/rerank and /info of Hugging Face's text-embeddings-inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, RootModel

from gliclass_rerank._version import __version__
from gliclass_rerank.serve.apis.api import Body, RerankApi
from gliclass_rerank.serve.core import ProblemKind, RequestError, RerankAnswer, RerankRequest
from gliclass_rerank.serve.engine import Engine

_ERRORS: Final[Mapping[ProblemKind, tuple[int, str]]] = {
    "empty": (400, "Empty"),
    "invalid": (422, "Validation"),
    "too_large": (413, "Validation"),
    "unauthorized": (401, "Unauthorized"),
    "not_found": (404, "NotFound"),
    "overloaded": (429, "Overloaded"),
    "failed": (424, "Backend"),
}


class TeiBody(Body):
    """Request; texts are always cut at their end, so that `truncation_direction` has no effect."""

    query: str
    texts: list[str]
    truncate: bool = True
    truncation_direction: str | None = None
    raw_scores: bool = False
    return_text: bool = False


class Rank(BaseModel):
    """Ranked text."""

    index: int
    score: float
    text: str | None = None


class Ranks(RootModel[list[Rank]]):
    """Ranked texts, best first."""


class Tei(RerankApi[TeiBody]):
    """API of text-embeddings-inference."""

    body = TeiBody
    content = Ranks

    def requests(self, body: TeiBody) -> list[RerankRequest]:
        """One ranking by the default model."""
        if not body.texts:
            raise RequestError("empty", "`texts` must not be empty, got []")
        return [RerankRequest(body.query, tuple(body.texts), may_truncate=body.truncate)]

    def answer(self, body: TeiBody, answers: Sequence[RerankAnswer], request_id: str) -> Ranks:  # noqa: ARG002
        """Bare list of texts."""
        (answer,) = answers
        return Ranks(
            [
                Rank(
                    index=hit.index,
                    score=hit.logit if body.raw_scores else hit.score,
                    text=body.texts[hit.index] if body.return_text else None,
                )
                for hit in answer.hits
            ]
        )

    def error(self, problem: RequestError) -> tuple[int, Any]:
        """`{"error": ..., "error_type": ...}`."""
        status, kind = _ERRORS[problem.kind]
        return status, {"error": str(problem), "error_type": kind}


def info(engine: Engine) -> dict[str, Any]:  # Any: JSON
    """Answer of `GET /info`; clients such as Dify's read type, length and batch size."""
    settings, model = engine.settings, engine.models.default
    return {
        "model_id": model.name,
        "model_sha": None,
        "model_dtype": model.reranker.dtype,
        "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        "max_concurrent_requests": settings.max_waiting,
        "max_input_length": model.reranker.max_window_tokens,
        "max_batch_tokens": engine.gather_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_documents,
        "auto_truncate": True,
        "tokenization_workers": settings.slots,
        "version": __version__,
    }
