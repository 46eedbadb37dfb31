"""OpenTelemetry spans of requests, by the GenAI convention's proposal for rerankers.

gen_ai.operation.name  rerank
gen_ai.request.model, gen_ai.response.model, gen_ai.usage.input_tokens
gen_ai.rerank.candidate.count, gen_ai.rerank.top_n
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from gliclass_rerank._imports import require


class Span(Protocol):
    """Span that takes attributes."""

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:  # Any: strings and numbers
        """Add attributes."""
        ...


class _NoSpan:
    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Drop attributes."""


class Tracing:
    """Spans of one process.

    Args:
        is_on: Make spans; else nothing of OpenTelemetry is imported.

    Raises:
        MissingDependencyError: It is on, and OpenTelemetry is not installed.
    """

    def __init__(self, *, is_on: bool) -> None:
        self._tracer: Any = None  # Any: of an optional package
        if is_on:
            self._trace: Any = require("opentelemetry.trace", extra="otel")
            self._propagate: Any = require("opentelemetry.propagate", extra="otel")
            self._tracer = self._trace.get_tracer("gliclass_rerank.serve")

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """Span of a request, a child of the client's if it sent one.

        Args:
            name: Name of the operation.
            headers: Headers of the request.

        Yields:
            The span.
        """
        if self._tracer is None:
            yield _NoSpan()
            return
        # Newer versions of FastAPI have a span around the endpoint, which continues the client's trace.
        is_inside = self._trace.get_current_span().get_span_context().is_valid
        context = None if is_inside else self._propagate.extract(headers)
        kind = self._trace.SpanKind.INTERNAL if is_inside else self._trace.SpanKind.SERVER
        attributes = {"gen_ai.operation.name": name, "gen_ai.provider.name": "gliclass_rerank"}
        with self._tracer.start_as_current_span(name, context=context, kind=kind, attributes=attributes) as span:
            yield span


def export_spans() -> None:
    """Send this process's spans to a collector, as the variables OTEL_EXPORTER_OTLP_ENDPOINT and others say.

    Raises:
        MissingDependencyError: The exporter is not installed.
    """
    trace: Any = require("opentelemetry.trace", extra="otel")  # Any: optional packages
    sdk: Any = require("opentelemetry.sdk.trace", extra="otel")
    export: Any = require("opentelemetry.sdk.trace.export", extra="otel")
    exporter: Any = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", extra="otel")
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.BatchSpanProcessor(exporter.OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
