"""Interface of an API, and what the bodies of all have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from gliclass_rerank.errors import shown
from gliclass_rerank.serve.core import ProblemKind, RequestError, RerankAnswer, RerankRequest
from gliclass_rerank.serve.engine import Engine

# What an API has no status of its own for.
STATUS: Final[Mapping[ProblemKind, int]] = {
    "empty": 400,
    "invalid": 400,
    "too_large": 413,
    "unauthorized": 401,
    "not_found": 404,
    "overloaded": 429,
    "failed": 500,
}


class Body(BaseModel):
    """Body of a request: nulls count as absent, unknown fields are ignored, "true" and "5" are read as true and 5."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:  # Any: JSON
        if not isinstance(fields, dict):  # the value of a field, which pydantic refuses
            return fields
        return {name: value for name, value in fields.items() if value is not None}


BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True)
class Reply:
    """Content of a response, and the rankings in it, for headers and log."""

    content: BaseModel
    answers: Sequence[RerankAnswer] = ()


class Api(ABC, Generic[BodyT]):
    """API of a route.

    Attributes:
        body: Schema of the request.
        content: Schema of the response.
    """

    body: type[BodyT]
    content: ClassVar[type[BaseModel]]

    @abstractmethod
    async def reply(self, body: BodyT, engine: Engine, request_id: str) -> Reply:
        """Answer a request; a `RequestError` if that is not possible."""

    def error(self, problem: RequestError) -> tuple[int, Any]:  # Any: JSON
        """Status and content for a problem."""
        return openai_error(problem)

    def parsed(self, fields: Mapping[str, Any]) -> BodyT:  # Any: JSON
        """Validate a body.

        Args:
            fields: JSON object.

        Returns:
            The body.

        Raises:
            RequestError: It does not have the API's schema.
        """
        try:
            return self.body.model_validate(fields)
        except ValidationError as error:
            raise RequestError("invalid", _sentence(error)) from None


class RerankApi(Api[BodyT]):
    """API whose requests are rankings."""

    @abstractmethod
    def requests(self, body: BodyT) -> list[RerankRequest]:
        """Rankings that a body asks for."""

    @abstractmethod
    def answer(self, body: BodyT, answers: Sequence[RerankAnswer], request_id: str) -> BaseModel:
        """Content of the response."""

    async def reply(self, body: BodyT, engine: Engine, request_id: str) -> Reply:
        """Rank, all rankings of a body at the same time."""
        answers = await asyncio.gather(*(engine.rank(request) for request in self.requests(body)))
        return Reply(self.answer(body, answers, request_id), answers)


def openai_error(problem: RequestError) -> tuple[int, Any]:  # Any: JSON
    """Error in the shape of OpenAI, vLLM and Infinity."""
    status = STATUS[problem.kind]
    kind = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 429: "RateLimitError"}
    kind_of = kind.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return status, {"error": {"message": str(problem), "type": kind_of, "param": None, "code": status}}


def _sentence(error: ValidationError) -> str:
    """First of pydantic's findings as a sentence."""
    found = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    if found["type"] == "missing":
        return f"`{where}` is missing"
    message = found["msg"][:1].lower() + found["msg"][1:]
    return f"`{where}`: {message}, got {shown(found['input'])}"
