"""/v1/systemone: typed questions about a state, in the schema of TypeSafe's API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gliclass_rerank.model.probability import softmax
from gliclass_rerank.serve.apis.api import STATUS, Api, Body, Reply
from gliclass_rerank.serve.core import ClassifyRequest, RequestError
from gliclass_rerank.serve.engine import Engine

Text = Any  # a string, or any JSON value, which is shown as JSON


class Noul(Body):
    """Yes or no."""

    type: Literal["noul"]
    instructions: Text = ""
    criteria: dict[str, Text] = Field(default_factory=dict)


class Choice(Body):
    """One of several options, each with a description or null."""

    type: Literal["choice"]
    instructions: Text = ""
    criteria: dict[str, Text] = Field(min_length=1, max_length=255)


class Score(Body):
    """Place on a ladder of levels."""

    type: Literal["score"]
    instructions: Text = ""
    criteria: list[Text] = Field(min_length=1, max_length=10)


Question = Annotated[Noul | Choice | Score, Field(discriminator="type")]


class SystemOneBody(Body):
    """State and questions."""

    state: Text
    model: str | None = None
    questions: dict[str, Question] = Field(min_length=1, max_length=64)


class Answer(BaseModel):
    """Answer of the question's type; other fields are absent."""

    type: Literal["noul", "choice", "score"]
    noul: float | None = None
    choice: str | None = None
    score: float | None = None
    legend: dict[str, Text] | None = None
    probabilities: dict[str, float] | None = None
    confidence: float | None = None


class Tokens(BaseModel):
    """Tokens of the request; not counted."""

    input_tokens: int = 0
    output_tokens: int = 0


class Answers(BaseModel):
    """Answers by question."""

    model: str
    answers: dict[str, Answer]
    usage: Tokens = Tokens()


class SystemOne(Api[SystemOneBody]):
    """Zero-shot classification of a state, question by question."""

    body = SystemOneBody
    content = Answers

    async def reply(self, body: SystemOneBody, engine: Engine, request_id: str) -> Reply:  # noqa: ARG002 # it has none
        """Answer the questions."""
        state, names = _text(body.state), list(body.questions)
        calls = (engine.classify(_request(state, body.questions[name])) for name in names)
        logits = await asyncio.gather(*calls)
        answers = {name: _answer(body.questions[name], each, engine) for name, each in zip(names, logits, strict=True)}
        assert engine.models.classifier is not None, "it has answered"
        return Reply(Answers(model=engine.models.classifier.name, answers=answers))

    def error(self, problem: RequestError) -> tuple[int, Any]:
        """`{"detail": ...}`."""
        status = 422 if problem.kind in ("invalid", "empty") else STATUS[problem.kind]
        return status, {"detail": str(problem)}


def _request(state: str, question: Noul | Choice | Score) -> ClassifyRequest:
    prompt = _text(question.instructions)
    if isinstance(question, Noul):
        # The question itself is the label: whether it holds is what a zero-shot classifier scores.
        labels = [_text(question.criteria.get("true")) or prompt or "yes"]
        prompt = prompt if question.criteria.get("true") else ""
    elif isinstance(question, Choice):
        labels = [f"{name}: {_text(text)}" if _text(text) else name for name, text in question.criteria.items()]
    else:
        labels = [_text(level) or f"level {number}" for number, level in enumerate(question.criteria)]
    return ClassifyRequest(state, tuple(labels), prompt and f"{prompt} ")


def _answer(question: Noul | Choice | Score, logits: Sequence[float], engine: Engine) -> Answer:
    if isinstance(question, Noul):
        return Answer(type="noul", noul=engine.label_scores(logits)[0])
    shares = softmax(logits)
    if isinstance(question, Choice):
        by_name = dict(zip(question.criteria, shares, strict=True))
        best = max(by_name, key=lambda name: by_name[name])
        return Answer(type="choice", choice=best, probabilities=by_name, confidence=_confidence(shares))
    return Answer(
        type="score",
        score=sum(level * share for level, share in enumerate(shares)),
        legend={str(level): text for level, text in enumerate(question.criteria)},
        probabilities={str(level): share for level, share in enumerate(shares)},
        confidence=_confidence(shares),
    )


def _confidence(shares: Sequence[float]) -> float:
    """Distance of the best share from chance, in [0, 1]."""
    if len(shares) == 1:
        return 1.0
    return max(0.0, (len(shares) * max(shares) - 1) / (len(shares) - 1))


def _text(value: Text) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)
