"""Route /explain: a ranking with all that is known of it, as the page shows it."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, Field

from gliclass_rerank.serve.apis.api import Api, Body, Reply
from gliclass_rerank.serve.core import ExplainRequest, Explanation
from gliclass_rerank.serve.engine import Engine
from gliclass_rerank.types import Example, Hit, Judged, Truncation

_MS_PER_S = 1000


class ExplainBody(Body):
    """Query with passages to rank."""

    query: str
    passages: list[str]
    model: str | None = None
    spans: bool = Field(True, description="find the characters that carry each score")


class Characters(BaseModel):
    """Part of a passage, in Unicode characters."""

    start: int
    end: int
    score: float | None = None


class Cut(BaseModel):
    """Tokens of a text, and how many of them the model did not read."""

    num_tokens: int
    num_lost: int


class ExplainedHit(BaseModel):
    """Passage with its score."""

    index: int
    score: float
    logit: float
    judged: Judged | None = None
    carried_over: float | None = Field(None, description="log-odds by judgements of similar queries")
    chunk: Characters | None = Field(None, description="best chunk of a passage that was split")
    cut: Cut | None = None
    spans: list[Characters] = Field(description="characters that carry the score")


class UsedExample(BaseModel):
    """Judged example that was shown to the model or carried over."""

    query: str
    relevant: list[str]
    irrelevant: list[str]
    cut: Cut | None = None


class Explained(BaseModel):
    """Ranking, best first."""

    model: str
    hits: list[ExplainedHit]
    query_cut: Cut | None = None
    examples: list[UsedExample]
    answerable: float | None = Field(None, description="probability that any passage answers the query")
    warnings: list[str]
    num_tokens: int
    waiting_ms: float
    ranking_ms: float
    spans_ms: float


class Explain(Api[ExplainBody]):
    """Ranking and what decided it."""

    body = ExplainBody
    content = Explained

    async def reply(self, body: ExplainBody, engine: Engine, request_id: str) -> Reply:  # noqa: ARG002 # none is kept
        """Rank and explain."""
        request = ExplainRequest(body.query, tuple(body.passages), body.model, body.spans)
        explanation = await engine.explain(request)
        return Reply(_explained(explanation), [explanation.answer])


def _explained(explanation: Explanation) -> Explained:
    ranking, answer = explanation.ranking, explanation.answer
    cuts = {cut.index: cut for cut in ranking.truncated}
    example_cuts = {cut.index: cut for cut in ranking.truncated_examples}
    return Explained(
        model=answer.model,
        hits=[_hit(hit, cuts.get(hit.index)) for hit in ranking],
        query_cut=_cut(ranking.truncated_query),
        examples=list(_examples(ranking.examples, example_cuts)),
        answerable=ranking.answerable,
        warnings=list(ranking.warnings),
        num_tokens=ranking.num_tokens,
        waiting_ms=answer.timing.queue_s * _MS_PER_S,
        ranking_ms=answer.timing.inference_s * _MS_PER_S,
        spans_ms=explanation.spans_s * _MS_PER_S,
    )


def _hit(hit: Hit, cut: Truncation | None) -> ExplainedHit:
    return ExplainedHit(
        index=hit.index,
        score=hit.score,
        logit=hit.logit,
        judged=hit.judged,
        carried_over=hit.carried_over,
        chunk=None if hit.chunk is None else Characters(start=hit.chunk[0], end=hit.chunk[1]),
        cut=_cut(cut),
        spans=[Characters(start=span.start, end=span.end, score=span.score) for span in hit.spans or ()],
    )


def _cut(cut: Truncation | None) -> Cut | None:
    return None if cut is None else Cut(num_tokens=cut.num_tokens, num_lost=cut.num_lost)


def _examples(examples: Iterable[Example], cuts: dict[int, Truncation]) -> Iterable[UsedExample]:
    for index, example in enumerate(examples):
        yield UsedExample(
            query=example.text,
            relevant=list(example.true_labels),
            irrelevant=list(example.false_labels),
            cut=_cut(cuts.get(index)),
        )
