"""Engine of the server: limits, cache, queue and models behind every API."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from gliclass_rerank.calls.background import in_background
from gliclass_rerank.errors import BackendError, GLiClassRerankError, shown
from gliclass_rerank.serve.cache import ScoreCache
from gliclass_rerank.serve.core import (
    ClassifyRequest,
    ExplainRequest,
    Explanation,
    Question,
    RequestError,
    RerankAnswer,
    RerankRequest,
    Scores,
    Timing,
    estimated_tokens,
)
from gliclass_rerank.serve.metrics import Metrics
from gliclass_rerank.serve.models import Models, ServedModel, scores_of
from gliclass_rerank.serve.scheduler import Done, Scheduler
from gliclass_rerank.serve.settings import ServeSettings
from gliclass_rerank.settings import default_batch_tokens
from gliclass_rerank.types import Hit, Ranking

_Result = TypeVar("_Result")


class Engine:
    """Answers requests of one event loop.

    Args:
        settings: Settings of the server.
        models: Loaded models.
        metrics: Metrics to count in.

    Attributes:
        settings: Settings of the server.
        models: Loaded models; what runs ends with those that it began with.
        metrics: Metrics.
        gather_tokens: Tokens of requests that are scored together.
    """

    def __init__(self, settings: ServeSettings, models: Models, metrics: Metrics) -> None:
        self.settings = settings
        self.models = models
        self.metrics = metrics
        on_cpu = models.default.reranker.device.type == "cpu"
        self.gather_tokens = settings.gather_tokens or default_batch_tokens(on_cpu=on_cpu)
        self._cache = ScoreCache(settings.cache_bytes)
        self._scheduler = Scheduler(
            slots=settings.slots,
            gather_tokens=self.gather_tokens,
            max_waiting=settings.max_waiting,
            max_age_s=settings.max_age,
            on_batch=metrics.count_batch,
        )
        metrics.watch(waiting=lambda: self._scheduler.num_waiting, running=lambda: self._scheduler.num_running)

    async def rank(self, request: RerankRequest) -> RerankAnswer:
        """Rank the passages of a request.

        Args:
            request: Request.

        Returns:
            Its answer.

        Raises:
            RequestError: The request is invalid or above a limit, the queue is full, or the model failed.
        """
        self._check(request)
        model = self.models.choose(request.model)
        key = model.key(request)
        scores, timing, is_cached = self._cache.get(key), Timing(), True
        if scores is None:
            done = await self._submit(key, model, request)
            scores, timing, is_cached = done.result, done.timing, False
            self._cache.put(key, scores)
        self.metrics.count_ranking(scores, timing, is_cached=is_cached)
        if not request.may_truncate:
            _check_whole(scores)
        hits = scores.hits[: request.top_k]
        if request.spans and hits:
            hits, more = await self._with_spans(model, request, hits)
            timing += more
        name = None
        if model.reranker.log is not None:
            name = await in_background(model.noted, request, hits)
        return RerankAnswer(model.name, hits, len(request.passages), scores.num_tokens, timing, is_cached, name)

    async def explain(self, request: ExplainRequest, model: ServedModel | None = None) -> Explanation:
        """Rank the passages of a request, with all that is known of the ranking; it is neither cached nor logged.

        Args:
            request: Request.
            model: Model to rank with; None for the one that the request names.

        Returns:
            Its explanation.

        Raises:
            RequestError: As for `rank`.
        """
        self._check(request)
        model = model or self.models.choose(request.model)
        cost = model.cost(request)
        done = await translated(self._scheduler.submit(object(), model.explain, request, cost=cost))
        ranking: Ranking = done.result
        self.metrics.count_ranking(scores_of(ranking), done.timing, is_cached=False)
        spans_s = 0.0
        if request.spans and ranking.hits:
            found = await translated(self._scheduler.submit(object(), model.spans, request, cost=cost))
            spans_s = found.timing.queue_s + found.timing.inference_s
            ranking = replace(ranking, hits=tuple(replace(hit, spans=found.result[hit.index]) for hit in ranking))
        answer = RerankAnswer(model.name, ranking.hits, len(request.passages), ranking.num_tokens, done.timing)
        return Explanation(ranking, answer, spans_s)

    async def classify(self, request: ClassifyRequest) -> list[float]:
        """Score a text against labels.

        Args:
            request: Request.

        Returns:
            One logit a label.

        Raises:
            RequestError: There is no classifier, the request is invalid or above a limit, or the model failed.
        """
        classifier = self.models.classifier
        if classifier is None:
            raise RequestError("not_found", "this server has no classifier; start it with `--classifier minilm-l6-v1`")
        self._check_size(request.encoded, "labels")
        cost = sum(min(classifier.max_window_tokens, estimated_tokens(data)) for data in request.encoded)
        done = await translated(self._scheduler.submit(request, self.models.classify, request, cost=cost))
        return done.result

    def label_scores(self, logits: Sequence[float]) -> list[float]:
        """Convert the result of `classify` to probabilities of labels, any number of which may apply."""
        classifier = self.models.classifier
        assert classifier is not None, "it gave the logits"
        return classifier.label_scores(logits)

    async def feedback(
        self, model: str | None, query: str, relevant: Sequence[str], irrelevant: Sequence[str], more: Mapping[str, Any]
    ) -> str:
        """Store judgements of a query; see `Reranker.feedback`.

        Args:
            model: Name of the model; None for the default.
            query: Query.
            relevant: Relevant passages.
            irrelevant: Irrelevant passages.
            more: `id` and `metadata`.

        Returns:
            Id of the example.

        Raises:
            RequestError: There is no store, or the judgements are invalid.
        """
        reranker = self.models.choose(model).reranker
        return await translated(reranker.afeedback(query, relevant, irrelevant, **more))

    async def signal(self, model: str | None, name: Literal["clicks", "rating"], ranking_id: str, value: Any) -> None:
        """Add clicks on a ranking, or its rating, to the feedback log; see `FeedbackLog`.

        Args:
            model: Name of the model; None for the default.
            name: Kind of signal.
            ranking_id: Id of the ranking.
            value: Indices of clicked passages, or a rating in [0, 1].

        Raises:
            RequestError: There is no log, or it does not know the ranking.
        """
        log = self.models.choose(model).reranker.log
        if log is None:
            raise RequestError("invalid", f"`/{name}` needs a log; start the server with `--log FILE`")
        await translated(in_background(getattr(log, name), ranking_id, value))

    def _check(self, request: Question) -> None:
        if not request.query.strip():
            raise RequestError("empty", f"`query` must not be blank, got {shown(request.query)}")
        self._check_size(request.encoded, "documents")

    def _check_size(self, encoded: Sequence[bytes], name: str) -> None:
        """Check the query or text, which comes first, and the documents or labels."""
        limit, limit_tokens = self.settings.max_documents, self.settings.max_request_tokens
        if len(encoded) - 1 > limit:
            raise RequestError("too_large", f"at most {limit} {name} are accepted, got {len(encoded) - 1}")
        tokens = sum(map(estimated_tokens, encoded))
        if tokens > limit_tokens:
            raise RequestError(
                "too_large", f"requests of at most {limit_tokens} tokens are accepted, got about {tokens}"
            )

    async def _submit(self, key: bytes, model: ServedModel, request: RerankRequest) -> Done[Scores]:
        # The same object for equal scores, whatever a request wants of them.
        wanted = replace(request, model=None, top_k=None, may_truncate=True, spans=False)
        return await translated(self._scheduler.submit(key, model.rank, wanted, cost=model.cost(request)))

    async def _with_spans(
        self, model: ServedModel, request: RerankRequest, hits: tuple[Hit, ...]
    ) -> tuple[tuple[Hit, ...], Timing]:
        """Score the sentences of what is shown, in a pass of its own, because others need not have asked for it."""
        shown = RerankRequest(request.query, tuple(request.passages[hit.index] for hit in hits))
        key = b"spans", model.key(shown)
        done = await translated(self._scheduler.submit(key, model.spans, shown, cost=model.cost(shown)))
        return tuple(replace(hit, spans=spans) for hit, spans in zip(hits, done.result, strict=True)), done.timing


def _check_whole(scores: Scores) -> None:
    if (cut := scores.truncated_query) is not None:
        name = "the query"
    elif scores.truncated:
        cut = scores.truncated[0]
        name = f"document {cut.index}"
    else:
        return
    raise RequestError(
        "invalid",
        f"{name} has {cut.num_tokens} tokens, {cut.num_lost} more than the model reads; allow truncation or send less",
    )


async def translated(call: Awaitable[_Result]) -> _Result:
    """Await a call and raise the library's errors as problems."""
    try:
        return await call
    except (RequestError, GLiClassRerankError) as error:
        raise _problem(error) from error


def _problem(error: GLiClassRerankError) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, BackendError):
        return RequestError("failed", str(error))
    return RequestError("invalid", str(error))
