"""Settings of the server; the models' own are in `gliclass_rerank.settings`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from gliclass_rerank.checks import checked_choice, checked_count, of_settings
from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.settings import RerankerSettings

DocumentFormat = Literal["object", "string"]
LogFormat = Literal["text", "json"]

# Threads that the library computes with for event loops.
MAX_SLOTS: Final = 4

_COUNTS: Final = (
    "workers",
    "slots",
    "gather_tokens",
    "max_waiting",
    "max_documents",
    "max_body_bytes",
    "max_request_tokens",
)


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Settings of the server."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all, behind a proxy that speaks TLS."""
    port: int = 8000
    """Port; 0 for any free one."""
    workers: int = 1
    """Processes, each with models, queue and cache of its own."""
    model: tuple[str, ...] = ()
    """Models to serve: a folder, bundled model or hub name, `NAME=` before it for another name in requests. The first
    one also answers requests for unknown models. The bundled default if there is none.
    """
    classifier: str | None = None
    """Checkpoint for /classify and /v1/systemone, such as minilm-l6-v1; none by default."""
    api_key: tuple[str, ...] = ()
    """Accepted keys; without one, no key is needed. Give them by environment: a process's arguments are public."""
    cors_origin: tuple[str, ...] = ()
    """Web origins whose pages may send requests; none by default."""
    root_path: str = ""
    """Path under which a proxy serves this server."""
    page: bool = True
    """Serve a page to try rankings at /."""
    document_format: DocumentFormat = "object"
    """Returned documents on /rerank and /v1/rerank: `object`, as Cohere, Jina and vLLM, or `string`, as Infinity."""
    slots: int = 2
    """Batches that are computed at the same time, at most 4. One is kept free of requests above `gather_tokens`."""
    gather_tokens: int | None = None
    """Tokens of waiting requests that are scored together, at most; a larger request is scored alone. None for those of
    one forward pass: 2,048 on the CPU and 65,536 elsewhere.
    """
    max_age: float = 1.0
    """Seconds after which a waiting request goes before shorter ones."""
    max_waiting: int = 512
    """Requests that may wait; more are answered with 429 and Retry-After."""
    max_documents: int = 2048
    """Documents of a request."""
    max_body_bytes: int = 8 * 1024 * 1024
    """Bytes of a request's body."""
    max_request_tokens: int = 1_000_000
    """Estimated tokens of a request, four bytes each."""
    cache_bytes: int = 64 * 1024 * 1024
    """Memory for the scores of answered requests; 0 for none."""
    shutdown_timeout: int = 60
    """Seconds that running requests have after SIGTERM or Ctrl-C."""
    log_format: LogFormat = "text"
    """One line a request, as text or as a JSON object."""
    log_request_texts: bool = False
    """Log queries and documents too."""
    tracing: bool = False
    """Export OpenTelemetry spans, as the OTEL_ variables say; needs the extra `otel`."""
    reranker: RerankerSettings = field(default_factory=RerankerSettings)
    """Settings of all models, except their names."""

    def __post_init__(self) -> None:
        with of_settings():
            for name in _COUNTS:
                if (count := getattr(self, name)) is not None:
                    checked_count(name, count)
            checked_choice("document_format", self.document_format, ("object", "string"))
            checked_choice("log_format", self.log_format, ("text", "json"))
        if self.slots > MAX_SLOTS:
            raise ConfigError(f"`slots` must be at most {MAX_SLOTS}, got {shown(self.slots)}")
        for name in ("port", "max_age", "cache_bytes", "shutdown_timeout"):
            if getattr(self, name) < 0:
                raise ConfigError(f"`{name}` must not be negative, got {shown(getattr(self, name))}")
        if any(not key.strip() for key in self.api_key):
            raise ConfigError("`api_key` must not be blank")
