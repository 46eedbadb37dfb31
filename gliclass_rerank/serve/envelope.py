"""Middleware around every request: id, total time, metrics and log line."""

from __future__ import annotations

import logging
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gliclass_rerank.serve.metrics import Metrics
from gliclass_rerank.serve.record import new_record

logger = logging.getLogger("gliclass_rerank.serve")

_QUIET: Final = frozenset({"/health", "/ping", "/metrics", "/"})
_PAGE: Final = "/page/"
_CLIENT_GONE: Final = 499


class Envelope:
    """ASGI middleware.

    Args:
        app: Application inside.
        metrics: Metrics to count requests in.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = new_record(scope)
        status = _CLIENT_GONE

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = record.id
                headers["x-total-time"] = milliseconds(record.seconds)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._count(scope, status)
            # The route's own path: a client's would make a new series, or a line, of its own.
            level = logging.DEBUG if _is_quiet(scope) else logging.INFO
            fields = {
                "method": scope["method"],
                "path": _path(scope),
                "status": status,
                "ms": round(record.seconds * 1000, 1),
                "request_id": record.id,
                **record.fields,
            }
            logger.log(level, "request", extra={"fields": fields})

    def _count(self, scope: Scope, status: int) -> None:
        record = scope["gliclass_rerank"]
        problem = record.problem or (None if status < 400 else str(status))
        if not _is_quiet(scope):
            self._metrics.count_request(_path(scope), record.seconds, problem)


def milliseconds(seconds: float) -> str:
    """Whole milliseconds for a header, as text-embeddings-inference has them."""
    return str(round(seconds * 1000))


def _is_quiet(scope: Scope) -> bool:
    """Test for probes and the page's files, which are no requests that operators count."""
    return scope["path"] in _QUIET or scope["path"].startswith(_PAGE)


def _path(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "other")
