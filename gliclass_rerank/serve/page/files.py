"""Files of the page, read once and served with a strict policy."""

from __future__ import annotations

import base64
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
REPORT: Final = "/report"
"""Path of the page of reports, which an extension adds."""

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing but the page's own files runs, nothing is fetched from elsewhere, and no text becomes markup.
_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
_HEADERS: Final = {
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
        return facts(engine, reports=any(getattr(route, "path", None) == REPORT for route in app.routes))

    for path in sorted(_ASSETS.iterdir()):
        add_file(app, "/" if path.name == _INDEX else f"/page/{path.name}", path)
    app.add_api_route(
        "/page/facts",
        page_facts,
        methods=["GET"],
        tags=["facts"],
        dependencies=[Depends(keys.check)],
        responses={"4XX": {"description": "The key is missing."}},
    )


def add_file(app: FastAPI, route: str, path: Path, *, inline_style: str | None = None) -> None:
    """Add a file of a page to an application.

    Args:
        app: Application.
        route: Path to serve it at.
        path: The file.
        inline_style: Style sheet that a page may hold beside its linked ones.
    """
    app.add_api_route(route, _answering(path, inline_style), methods=["GET"], include_in_schema=False)


def _answering(path: Path, inline_style: str | None) -> Callable[[Request], Response]:
    content = path.read_bytes()
    headers = _HEADERS | {
        "content-security-policy": "; ".join((*_POLICY, _style_policy(inline_style))),
        "content-type": _TYPES[path.suffix],
        "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return answer


def _style_policy(inline_style: str | None) -> str:
    if inline_style is None:
        return "style-src 'self'"
    digest = base64.b64encode(hashlib.sha256(inline_style.encode()).digest()).decode()
    return f"style-src 'self' 'sha256-{digest}'"
