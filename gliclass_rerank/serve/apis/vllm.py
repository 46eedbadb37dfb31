"""vLLM's /rerank and /score."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field

from gliclass_rerank.serve.apis.api import Body, RerankApi
from gliclass_rerank.serve.apis.shapes import CohereShaped, RerankBody, Usage, passages, usage
from gliclass_rerank.serve.core import RequestError, RerankAnswer, RerankRequest


class VllmBody(RerankBody):
    """Request; limits on lengths are the model's own."""

    use_activation: bool = True


class Vllm(CohereShaped):
    """vLLM's API for rankings, which returns documents unless told otherwise."""

    body = VllmBody
    returns_documents = True

    def score(self, body: RerankBody, logit: float, score: float) -> float:
        """Probability, or the logit without activation."""
        return score if not isinstance(body, VllmBody) or body.use_activation else logit


def _texts(*names: str) -> Any:  # Any: pydantic's
    return Field(validation_alias=AliasChoices(*names), description=f"a text or a list; also as {', '.join(names[1:])}")


class ScoreBody(Body):
    """One query for all documents, or a query for each."""

    model: str | None = None
    queries: str | list[str] = _texts("queries", "text_1", "data_1")
    documents: str | list[Any] = _texts("documents", "text_2", "data_2", "items")
    use_activation: bool = True


class Score(BaseModel):
    """Score of a pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreAnswer(BaseModel):
    """Scores in the order of the request."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: Usage


class VllmScore(RerankApi[ScoreBody]):
    """vLLM's API for pairs."""

    body = ScoreBody
    content = ScoreAnswer

    def requests(self, body: ScoreBody) -> list[RerankRequest]:
        """One ranking a query."""
        queries = [body.queries] if isinstance(body.queries, str) else body.queries
        texts = passages([body.documents] if isinstance(body.documents, str) else body.documents)
        if len(queries) == 1:
            return [RerankRequest(queries[0], texts, model=body.model)]
        if len(queries) != len(texts) or not queries:
            raise RequestError(
                "invalid",
                f"`queries` must hold one text, or one for each of {len(texts)} documents, got {len(queries)}",
            )
        return [RerankRequest(query, (text,), model=body.model) for query, text in zip(queries, texts, strict=True)]

    def answer(self, body: ScoreBody, answers: Sequence[RerankAnswer], request_id: str) -> ScoreAnswer:
        """Scores in the order of the documents."""
        hits = chain.from_iterable(sorted(answer.hits, key=lambda hit: hit.index) for answer in answers)
        return ScoreAnswer(
            id=request_id,
            created=int(time.time()),
            model=answers[0].model,
            data=[
                Score(index=index, score=hit.score if body.use_activation else hit.logit)
                for index, hit in enumerate(hits)
            ],
            usage=usage(answers),
        )
