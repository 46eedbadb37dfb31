"""The command `serve`: options from flags, else from the environment, else from a TOML file."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gliclass_rerank._imports import require
from gliclass_rerank.cli.model_options import with_options
from gliclass_rerank.errors import ConfigError, cause, listed
from gliclass_rerank.serve.settings import ServeSettings
from gliclass_rerank.settings import RerankerSettings

ENVIRONMENT: Final = "GLICLASS_RERANK_SERVE"
"""Prefix of the variables: `GLICLASS_RERANK_SERVE_PORT` stands for `--port`; lists are separated by blanks."""


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Let the file's values be the defaults of all options; its keys are their names."""
    if path is None:
        return None
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        values: dict[str, Any] = toml.loads(path.read_text(encoding="utf-8"))  # Any: TOML
    except (OSError, ValueError) as error:
        raise ConfigError(f"`--config` cannot be read: {cause(error)}") from error
    values = {name.replace("-", "_"): value for name, value in values.items()}
    known = {parameter.name for parameter in context.command.params} - {"config"}
    if unknown := values.keys() - known:
        raise ConfigError(f"`{path.name}` has settings that `serve` does not know: {listed(unknown)}")
    # As the command line has them: strings, except for what is repeated.
    context.default_map = {
        name: [str(each) for each in value] if isinstance(value, list) else value for name, value in values.items()
    }
    return path


@with_options(ServeSettings, but=("reranker",))
@with_options(RerankerSettings, but=("model",))
def serve(
    reranker: RerankerSettings,
    server: ServeSettings,
    config: Annotated[  # noqa: ARG001 # its callback reads it
        Path | None,
        typer.Option(
            "--config",
            callback=_read_config,
            is_eager=True,
            help="TOML file with any of these options; flags and GLICLASS_RERANK_SERVE_... variables go first.",
        ),
    ] = None,
) -> None:
    """Serve models over HTTP.

    Clients of Cohere, Jina, vLLM, TEI, Infinity and Voyage work as they are.
    """
    settings = replace(server, reranker=reranker)
    for package in ("fastapi", "uvicorn", "prometheus_client", "cachetools"):
        require(package, extra="serve")
    from gliclass_rerank.learn.report.serving import report_page
    from gliclass_rerank.serve.server import run

    run(settings, [report_page])
