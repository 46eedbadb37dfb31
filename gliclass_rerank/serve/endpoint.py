"""Endpoint of an API: reads the body, chooses the API by it, and answers in that API's words."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gliclass_rerank.errors import shown
from gliclass_rerank.serve.apis.api import Api, Reply
from gliclass_rerank.serve.auth import Keys
from gliclass_rerank.serve.core import RequestError
from gliclass_rerank.serve.engine import Engine
from gliclass_rerank.serve.envelope import milliseconds
from gliclass_rerank.serve.record import Record, record_of
from gliclass_rerank.serve.tracing import Span, Tracing

logger = logging.getLogger("gliclass_rerank.serve")

_Result = TypeVar("_Result")
_GONE = Response(status_code=499)  # nobody reads it

Choose = Callable[[Mapping[str, Any]], Api[Any]]
"""API of a route for the fields of a body; for none, the API whose words an early error has."""


class _ClientGoneError(Exception):
    """The client closed the connection."""


class Endpoint:
    """Handler of one route.

    Args:
        choose: API of the route.
        engine: Engine.
        keys: Accepted keys.
        tracing: Spans.
        operation: Name of the spans.
    """

    def __init__(self, choose: Choose, engine: Engine, keys: Keys, tracing: Tracing, operation: str) -> None:
        self._choose = choose
        self._engine = engine
        self._keys = keys
        self._tracing = tracing
        self._operation = operation

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        api, record = self._choose({}), record_of(request.scope)
        try:
            self._keys.check(request)
            fields = await read_object(request, self._engine.settings.max_body_bytes)
            api = self._choose(fields)
            with self._tracing.span(self._operation, request.headers) as span:
                body = api.parsed(fields)
                self._note_request(fields, span, record)
                reply = await _unless_gone(request, api.reply(body, self._engine, record.id))
                _note_reply(reply, span, record)
        except _ClientGoneError:
            record.problem = "gone"
            return _GONE
        except asyncio.CancelledError:  # the server ends, and has waited long enough
            return failure(api, RequestError("overloaded", "the server is shutting down", retry_after=1), record)
        except RequestError as problem:
            return failure(api, problem, record)
        except Exception:
            logger.exception("request failed", extra={"fields": {"request_id": record.id}})
            return failure(api, RequestError("failed", "the server failed; its log says why"), record)
        content = reply.content.model_dump_json(exclude_none=True, by_alias=True)
        return Response(content, media_type="application/json", headers=_headers(reply))

    def _note_request(self, fields: Mapping[str, Any], span: Span, record: Record) -> None:
        model = fields.get("model")
        if isinstance(model, str):
            span.set_attributes({"gen_ai.request.model": shown(model)[1:-1]})
        for name in ("top_n", "top_k"):
            if isinstance(fields.get(name), int):
                span.set_attributes({"gen_ai.rerank.top_n": fields[name]})
        if self._engine.settings.log_request_texts:
            record.fields["body"] = dict(fields)


async def read_object(request: Request, max_bytes: int) -> dict[str, Any]:  # Any: JSON
    """Read the body of a request.

    Args:
        request: Request.
        max_bytes: Limit; nothing more than it is read.

    Returns:
        The JSON object.

    Raises:
        RequestError: It is too large, or no JSON object.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise RequestError("too_large", f"bodies of at most {max_bytes} bytes are accepted, got more")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestError("invalid", f"the body must be a JSON object, got {shown(bytes(data[:200]))}") from error
    if not isinstance(value, dict):
        raise RequestError("invalid", f"the body must be a JSON object, got {shown(value)}")
    return value


def failure(api: Api[Any], problem: RequestError, record: Record) -> Response:
    """Response for a problem, in the words of an API."""
    record.problem = problem.kind
    status, content = api.error(problem)
    headers = {} if problem.retry_after is None else {"retry-after": str(problem.retry_after)}
    if problem.kind == "unauthorized":
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(content, status, headers)


async def _unless_gone(request: Request, call: Coroutine[Any, Any, _Result]) -> _Result:
    """Await a call; if the client closes the connection, cancel it."""
    work, gone = asyncio.ensure_future(call), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise _ClientGoneError
        return work.result()
    finally:
        work.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _note_reply(reply: Reply, span: Span, record: Record) -> None:
    if not reply.answers:
        return
    first = reply.answers[0]
    passages = sum(answer.num_passages for answer in reply.answers)
    tokens = sum(answer.num_tokens for answer in reply.answers)
    record.fields |= {"model": first.model, "passages": passages, "tokens": tokens, "cached": first.is_cached}
    span.set_attributes(
        {
            "gen_ai.response.model": first.model,
            "gen_ai.usage.input_tokens": tokens,
            "gen_ai.rerank.candidate.count": passages,
        }
    )


def _headers(reply: Reply) -> dict[str, str]:
    if not reply.answers:
        return {}
    queue = max(answer.timing.queue_s for answer in reply.answers)
    inference = max(answer.timing.inference_s for answer in reply.answers)
    ids = {} if reply.answers[0].id is None else {"x-ranking-id": reply.answers[0].id}
    return ids | {
        "x-queue-time": milliseconds(queue),
        "x-inference-time": milliseconds(inference),
        "x-compute-tokens": str(sum(answer.num_tokens for answer in reply.answers)),
        "x-cache": "hit" if all(answer.is_cached for answer in reply.answers) else "miss",
    }
