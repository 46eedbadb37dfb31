"""Prometheus metrics under the names of text-embeddings-inference, and of vLLM where that has none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from gliclass_rerank.serve.core import Scores, Timing

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKENS: Final = (16, 64, 256, 1024, 4096, 16384, 65536, 262144)
_PROCESSES: Final = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """Metrics of one process; `--workers` shares them through a folder."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        # Gauges, because prometheus_client appends `_total` to counters, which dashboards for these names do not know.
        self._requests = _sum("te_request_count", "Requests", registry)
        self._successes = _sum("te_request_success", "Requests answered with a status below 400", registry)
        self._failures = _sum("te_request_failure", "Requests that failed, by reason", registry, "err")
        self._durations = Histogram(
            "te_request_duration", "Seconds of a request", ["path"], buckets=_SECONDS, registry=registry
        )
        self._rankings = _sum("te_predict_count", "Rankings, also from the cache", registry)
        self._queue = _seconds("te_request_queue_duration", "Seconds in the queue", registry)
        self._inference = _seconds("te_request_inference_duration", "Seconds in the model, with the batch", registry)
        self._lengths = Histogram("te_request_input_length", "Tokens of a ranking", buckets=_TOKENS, registry=registry)
        self._batch_requests = Histogram(
            "te_batch_next_size", "Requests of a batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self._batch_tokens = Histogram(
            "te_batch_next_tokens", "Estimated tokens of a batch", buckets=_TOKENS, registry=registry
        )
        self._waiting = Gauge("te_queue_size", "Requests in the queue", registry=registry, multiprocess_mode="livesum")
        self._running = Gauge(
            "vllm:num_requests_running", "Requests in batches", registry=registry, multiprocess_mode="livesum"
        )
        self._tokens = Counter("vllm:prompt_tokens", "Tokens read by the model", registry=registry)
        self._hits = Counter("gliclass_rerank_cache_hits", "Rankings from the cache", registry=registry)
        self._passages = Counter("gliclass_rerank_passages", "Passages ranked, also from the cache", registry=registry)
        self._watched: dict[Gauge, Callable[[], int]] = {}

    def watch(self, *, waiting: Callable[[], int], running: Callable[[], int]) -> None:
        """Read the sizes of the queue and of the batches when metrics are asked for."""
        self._watched = {self._waiting: waiting, self._running: running}

    def count_batch(self, requests: int, tokens: int) -> None:
        """Count a batch that starts."""
        self._batch_requests.observe(requests)
        self._batch_tokens.observe(tokens)
        self._read_sizes()

    def count_ranking(self, scores: Scores, timing: Timing, *, is_cached: bool) -> None:
        """Count a ranking."""
        self._rankings.inc()
        self._passages.inc(len(scores.hits))
        self._lengths.observe(scores.num_tokens)
        if is_cached:
            self._hits.inc()
            return
        self._tokens.inc(scores.num_tokens)
        self._queue.observe(timing.queue_s)
        self._inference.observe(timing.inference_s)

    def count_request(self, path: str, seconds: float, problem: str | None) -> None:
        """Count an answered request; `problem` is why it failed."""
        self._requests.inc()
        self._durations.labels(path).observe(seconds)
        if problem is None:
            self._successes.inc()
        else:
            self._failures.labels(problem).inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, those of other workers included."""
        self._read_sizes()
        if _PROCESSES not in os.environ:
            return generate_latest(self.registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call] # untyped upstream
        return generate_latest(shared)

    def _read_sizes(self) -> None:
        for gauge, size in self._watched.items():
            gauge.set(size())


def _sum(name: str, text: str, registry: CollectorRegistry, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=registry, multiprocess_mode="sum")


def _seconds(name: str, text: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, text, buckets=_SECONDS, registry=registry)
