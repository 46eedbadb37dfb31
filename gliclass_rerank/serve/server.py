"""Server process: models, then uvicorn; several processes share one socket."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from gliclass_rerank.errors import ConfigError, GLiClassRerankError, cause, shown
from gliclass_rerank.serve.app import Extension, create_app
from gliclass_rerank.serve.logs import set_up_logs
from gliclass_rerank.serve.models import Models, load_models
from gliclass_rerank.serve.reload import Reloader
from gliclass_rerank.serve.settings import ServeSettings
from gliclass_rerank.serve.tracing import export_spans

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("gliclass_rerank.serve")

_STARTUP_FAILURE: Final = 3  # a worker that ends so is not started again
_SLOW_START_S: Final = 60
_BACKLOG: Final = 2048


class _Server(uvicorn.Server):
    """Server that says so when it listens, and reloads its models on SIGHUP."""

    def __init__(self, config: uvicorn.Config, reloader: Reloader) -> None:
        super().__init__(config)
        self._reloader = reloader

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._reloader.listen()
        if self.started and sockets:
            logger.info("ready on %s", _address(sockets[0]))


class _Workers(Multiprocess):
    """Worker processes that share a socket, and a log line when all of them listen."""

    _are_ready = False

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        if not self._are_ready and all(process.is_ready() for process in self.processes):
            self._are_ready = True
            logger.info("ready on %s, %d workers", _address(self.sockets[0]), len(self.processes))


def run(settings: ServeSettings, extensions: Sequence[Extension] = ()) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that run then are answered.

    Args:
        settings: Settings of the server.
        extensions: Pages of other packages; functions of modules, as workers import them.

    Raises:
        CheckpointError: A model cannot be loaded.
        ConfigError: A setting does not apply to a model, or the address is in use.
        MissingDependencyError: A package is not installed.
    """
    set_up_logs(settings.log_format)
    # Bound first, as loading takes time; clients are refused until a server listens, with its models loaded.
    with _bound(settings.host, settings.port) as listener:
        # Loaded here, so that an error is one line, and once before the workers, so that they find exported graphs.
        models = load_models(settings)
        if settings.workers == 1:
            _serve_alone(settings, models, extensions, listener)
        else:
            del models
            _serve_by_workers(settings, extensions, listener)


def _serve_alone(
    settings: ServeSettings, models: Models, extensions: Sequence[Extension], listener: socket.socket
) -> None:
    if settings.tracing:
        export_spans()
    # uvicorn raises the signal again when all is answered; the process has ended well then.
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)  # noqa: ARG005 # Python's signature
    try:
        app = create_app(settings, models, extensions)
        _Server(_config(settings, app), Reloader(app.state.engine)).run([listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve_by_workers(settings: ServeSettings, extensions: Sequence[Extension], listener: socket.socket) -> None:
    logger.info("%d workers load their models", settings.workers)
    with tempfile.TemporaryDirectory(prefix="gliclass-rerank-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        _Workers(_config(settings, partial(_worker_app, settings, extensions), is_factory=True), [listener]).run()


def _worker_app(settings: ServeSettings, extensions: Sequence[Extension]) -> FastAPI:
    """Application of a worker process; if its models cannot be loaded, all workers end."""
    set_up_logs(settings.log_format)
    if settings.tracing:
        export_spans()
    try:
        return create_app(settings, load_models(settings), extensions)
    except (GLiClassRerankError, OSError) as error:
        logger.error("error: %s", error)
        sys.exit(_STARTUP_FAILURE)


def _bound(host: str, port: int) -> socket.socket:
    """Socket with an address that does not listen yet."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {shown(host)}, port {port}: {cause(error)}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.set_inheritable(True)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(f"cannot listen on {shown(host)}, port {port}: {cause(error)}") from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _config(settings: ServeSettings, app: object, *, is_factory: bool = False) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type] # an application, or what makes one
        factory=is_factory,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        root_path=settings.root_path,
        timeout_graceful_shutdown=settings.shutdown_timeout,
        timeout_worker_healthcheck=_SLOW_START_S,
    )
