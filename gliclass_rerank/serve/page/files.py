"""Files of the page, read once and served with a strict policy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fastapi import Depends, FastAPI, Request, Response

from gliclass_rerank.serve.auth import Keys
from gliclass_rerank.serve.engine import Engine
from gliclass_rerank.serve.page.facts import Facts, facts

_ASSETS: Final = Path(__file__).parent / "assets"
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing but the page's own files runs, nothing is fetched from elsewhere, and no text becomes markup.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked for anew each time, and answered with 304
}


def add_page(app: FastAPI, engine: Engine, keys: Keys) -> None:
    """Add the page, its files and its facts to an application; only the facts need a key.

    Args:
        app: Application.
        engine: Engine.
        keys: Accepted keys.
    """

    async def page_facts() -> Facts:
        """Models and limits, as the page shows them."""
        return facts(engine)

    for path in sorted(_ASSETS.iterdir()):
        route = "/" if path.name == _INDEX else f"/page/{path.name}"
        app.add_api_route(route, _answering(path), methods=["GET"], include_in_schema=False)
    app.add_api_route(
        "/page/facts",
        page_facts,
        methods=["GET"],
        tags=["facts"],
        dependencies=[Depends(keys.check)],
        responses={"4XX": {"description": "The key is missing."}},
    )


def _answering(path: Path) -> Callable[[Request], Response]:
    content = path.read_bytes()
    headers = _HEADERS | {"content-type": _TYPES[path.suffix], "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return answer
