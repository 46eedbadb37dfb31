"""Command `mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from gliclass_rerank._imports import require
from gliclass_rerank.cli.model_options import load_reranker, with_options
from gliclass_rerank.cli.notes import library_notes
from gliclass_rerank.settings import RerankerSettings


@with_options(RerankerSettings)
def mcp(
    settings: RerankerSettings,
    classifier: Annotated[
        str | None, typer.Option("--classifier", help="Checkpoint for `classify`.  [default: the bundled one]")
    ] = None,
    http: Annotated[
        int | None,
        typer.Option(
            "--http", metavar="PORT", min=1, max=65535, help="Serve at http://127.0.0.1:PORT/mcp, not over stdio."
        ),
    ] = None,
) -> None:
    """Serve agents over the Model Context Protocol.

    Tools: rerank, classify, choose_tools.
    """
    require("mcp", extra="mcp")
    from gliclass_rerank import ZeroShotClassifier
    from gliclass_rerank.mcp.server import build_server, run

    reranker = load_reranker(settings)
    with library_notes():
        labels = ZeroShotClassifier(classifier, device=settings.device)
    run(build_server(reranker, labels), http)
