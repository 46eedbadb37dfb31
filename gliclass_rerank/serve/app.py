"""Application: routes, middleware, and the OpenAPI document."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from gliclass_rerank._version import __version__
from gliclass_rerank.serve.apis.api import openai_error
from gliclass_rerank.serve.apis.tei import info
from gliclass_rerank.serve.auth import Keys
from gliclass_rerank.serve.core import RequestError
from gliclass_rerank.serve.endpoint import Endpoint
from gliclass_rerank.serve.engine import Engine
from gliclass_rerank.serve.envelope import Envelope
from gliclass_rerank.serve.metrics import Metrics
from gliclass_rerank.serve.models import Models
from gliclass_rerank.serve.page import add_page
from gliclass_rerank.serve.record import record_of
from gliclass_rerank.serve.routes import Route, all_routes
from gliclass_rerank.serve.settings import ServeSettings
from gliclass_rerank.serve.tracing import Tracing
from gliclass_rerank.serve.versions import following

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"description": "The request is at fault; the shape is the API's own."},
    "5XX": {"description": "The server failed."},
}


Extension = Callable[[FastAPI], Sequence[Route]]
"""Adds its pages to an application, and returns its routes."""


def create_app(settings: ServeSettings, models: Models, extensions: Sequence[Extension] = ()) -> FastAPI:
    """Build the ASGI application of a server.

    Args:
        settings: Settings of the server.
        models: Loaded models.
        extensions: Pages of other packages, left out with the page.

    Returns:
        The application, ready to answer; its `state` has the `engine`.
    """
    metrics = Metrics()
    engine = Engine(settings, models, metrics)
    keys, tracing = Keys(settings.api_key), Tracing(is_on=settings.tracing)
    app = FastAPI(
        title="gliclass-rerank",
        version=__version__,
        root_path=settings.root_path,
        lifespan=following(models),
    )
    app.state.engine = engine
    more = [route for extend in extensions for route in extend(app)] if settings.page else []
    for route in (*all_routes(settings.document_format), *more):
        _add(app, route, Endpoint(route.choose, engine, keys, tracing, route.operation))
    _add_reads(app, engine, keys)
    if settings.page:
        add_page(app, engine, keys)
    app.add_exception_handler(RequestError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_error)
    if settings.cors_origin:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origin, allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    app.add_middleware(Envelope, metrics=metrics)
    return app


def _add(app: FastAPI, route: Route, endpoint: Endpoint) -> None:
    schemas = [api.body.model_json_schema(by_alias=True) for api in route.apis]
    contents = [api.content.model_json_schema(mode="serialization") for api in route.apis]
    app.add_api_route(
        route.path,
        endpoint.answer,
        methods=["POST"],
        name=f"{route.operation} {route.path}",
        operation_id=route.path.strip("/").replace("/", "_"),
        tags=[route.operation],
        response_model=None,
        responses={200: {"description": "The answer", "content": _json(contents)}, **_ERRORS},
        openapi_extra={"requestBody": {"required": True, "content": _json(schemas)}},
    )


def _json(schemas: list[dict[str, Any]]) -> dict[str, Any]:  # Any: JSON
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {"application/json": {"schema": schema}}


def _add_reads(app: FastAPI, engine: Engine, keys: Keys) -> None:
    async def health() -> dict[str, Any]:
        """The models are loaded and warm."""
        return {"status": "ready", "unix": time.time()}

    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(engine.metrics.text(), media_type=_METRICS_TYPE)

    async def models() -> dict[str, Any]:
        """Names for `model`; the first one is the default."""
        names = engine.models.names
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "gliclass-rerank"} for name in names]
        return {"object": "list", "data": data}

    async def facts() -> dict[str, Any]:
        """Limits and the default model, as text-embeddings-inference tells them."""
        return info(engine)

    reads: dict[str, Callable[[], Awaitable[Any]]] = {
        "/models": models,
        "/v1/models": models,
        "/info": facts,
        "/tei/info": facts,
    }
    for path in ("/health", "/ping", "/tei/health", "/infinity/health"):
        app.add_api_route(path, health, methods=["GET"], tags=["probes"])
    guarded: dict[str, Any] = {"tags": ["facts"], "dependencies": [Depends(keys.check)], "responses": _ERRORS}
    for path, read in reads.items():
        app.add_api_route(path, read, methods=["GET"], **guarded)
    app.add_api_route("/metrics", metrics, methods=["GET"], response_class=PlainTextResponse, **guarded)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError), "registered for it"
    record_of(request.scope).problem = error.kind
    status, content = openai_error(error)
    return JSONResponse(content, status, {"www-authenticate": "Bearer"} if status == 401 else None)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException), "registered for it"
    message = f"{error.detail}: {request.method} {request.url.path[:80]}; see /docs"
    content = {"error": {"message": message, "type": "NotFoundError", "param": None, "code": error.status_code}}
    return JSONResponse(content, error.status_code, error.headers)
