"""Routes of our own: /classify, /feedback, /clicks and /rating."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from gliclass_rerank.model.probability import softmax
from gliclass_rerank.serve.apis.api import Api, Body, Reply
from gliclass_rerank.serve.core import ClassifyRequest
from gliclass_rerank.serve.engine import Engine


class ClassifyBody(Body):
    """Text with labels of any kind."""

    text: str
    labels: list[str] = Field(min_length=1)
    multi_label: bool = Field(True, description="any number of labels may apply, else exactly one does")
    prompt: str = Field("", description="task description, put before the text")


class Label(BaseModel):
    """Label with its probability."""

    label: str
    index: int
    score: float


class Classified(BaseModel):
    """Labels, most probable first."""

    id: str
    labels: list[Label]


class Classify(Api[ClassifyBody]):
    """Zero-shot classification."""

    body = ClassifyBody
    content = Classified

    async def reply(self, body: ClassifyBody, engine: Engine, request_id: str) -> Reply:
        """Score the labels."""
        logits = await engine.classify(ClassifyRequest(body.text, tuple(body.labels), body.prompt))
        scores = engine.label_scores(logits) if body.multi_label else softmax(logits)
        order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
        labels = [Label(label=body.labels[index], index=index, score=scores[index]) for index in order]
        return Reply(Classified(id=request_id, labels=labels))


class FeedbackBody(Body):
    """Judged documents of a query."""

    query: str
    relevant: list[str] = Field(default_factory=list)
    irrelevant: list[str] = Field(default_factory=list)
    id: str | None = Field(None, description="keeps these judgements apart from others of the query")
    metadata: dict[str, Any] | None = None  # Any: JSON
    model: str | None = None


class Learned(BaseModel):
    """Stored example, or ranking with a new signal."""

    id: str


class Feedback(Api[FeedbackBody]):
    """Judgements for the example store."""

    body = FeedbackBody
    content = Learned

    async def reply(self, body: FeedbackBody, engine: Engine, request_id: str) -> Reply:  # noqa: ARG002 # an example's id
        """Store the judgements."""
        more = {"id": body.id, "metadata": body.metadata}
        return Reply(Learned(id=await engine.feedback(body.model, body.query, body.relevant, body.irrelevant, more)))


class ClicksBody(Body):
    """Clicked documents of a ranking."""

    id: str = Field(description="`id` of the answer, or its header `x-ranking-id`")
    indices: list[int]
    model: str | None = None


class RatingBody(Body):
    """Rating of a ranking."""

    id: str = Field(description="`id` of the answer, or its header `x-ranking-id`")
    rating: float = Field(ge=0, le=1, description="from 0, bad, to 1, good; a thumb is 0 or 1")
    model: str | None = None


class Clicks(Api[ClicksBody]):
    """Clicks for the feedback log."""

    body = ClicksBody
    content = Learned

    async def reply(self, body: ClicksBody, engine: Engine, request_id: str) -> Reply:  # noqa: ARG002 # a ranking's id
        """Log the clicks."""
        await engine.signal(body.model, "clicks", body.id, body.indices)
        return Reply(Learned(id=body.id))


class Rating(Api[RatingBody]):
    """Ratings for the feedback log."""

    body = RatingBody
    content = Learned

    async def reply(self, body: RatingBody, engine: Engine, request_id: str) -> Reply:  # noqa: ARG002 # a ranking's id
        """Log the rating."""
        await engine.signal(body.model, "rating", body.id, body.rating)
        return Reply(Learned(id=body.id))
