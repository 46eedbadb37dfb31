"""Loaded models of the server, chosen by the request's `model`."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from gliclass_rerank.checkpoint.location import DEFAULT_RANKER
from gliclass_rerank.checkpoint.versions import version_of
from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.prompt.chunks import tokens_read
from gliclass_rerank.prompt.sample import sample_rankings
from gliclass_rerank.reranker import Reranker
from gliclass_rerank.serve.core import (
    ClassifyRequest,
    ExplainRequest,
    Question,
    RerankRequest,
    Scores,
    estimated_tokens,
)
from gliclass_rerank.serve.settings import ServeSettings
from gliclass_rerank.settings import LongPassages
from gliclass_rerank.types import Hit, Ranking, Span

# Settings of a reranker that hold for the classifier too.
_SHARED: Final[Sequence[str]] = ("device", "dtype", "backend", "threads", "batch_tokens")


class ServedModel:
    """Reranker under the name that requests call it by.

    Args:
        name: Name.
        reranker: Loaded model.
        version: Version that was loaded; None for a model without versions.
        long_passages: Its treatment of long passages, which decides what they cost.

    Attributes:
        name: Name.
        reranker: Loaded model.
        version: Version that was loaded.
    """

    def __init__(
        self,
        name: str,
        reranker: Reranker,
        version: str | None = None,
        *,
        long_passages: LongPassages = "best_chunk",
    ) -> None:
        self.name = name
        self.reranker = reranker
        self.version = version
        self._long_passages = long_passages
        # A model that is loaded again may be another one under the same name.
        self._mark = secrets.token_bytes(8)

    def reloaded(self, version: str) -> ServedModel:
        """Load the model anew, warmed up; `version` is the current one of its versions."""
        reranker = Reranker(**self.reranker.settings)
        fresh = ServedModel(self.name, reranker, version, long_passages=self._long_passages)
        fresh.warm_up()
        return fresh

    def rank(self, requests: Sequence[RerankRequest]) -> list[Scores]:
        """Rank the passages of several requests together."""
        rankings = self.reranker.rank_many(
            [request.query for request in requests], [request.passages for request in requests], log=False
        )
        return list(map(scores_of, rankings))

    def explain(self, requests: Sequence[ExplainRequest]) -> list[Ranking]:
        """Rank the passages of requests, with all that is known of the rankings but spans; nothing is logged."""
        return [self.reranker.rank(request.query, request.passages, log=False) for request in requests]

    def spans(self, requests: Sequence[Question]) -> list[list[tuple[Span, ...]]]:
        """Score the sentences of the passages of several requests."""
        return [self.reranker.spans(request.query, request.passages) for request in requests]

    def noted(self, request: RerankRequest, hits: Sequence[Hit]) -> str | None:
        """Add what a request is shown to the feedback log.

        Args:
            request: Request.
            hits: What it is answered with.

        Returns:
            Id for clicks and ratings; None without a log.
        """
        if self.reranker.ranking_log is None:
            return None
        shown_hits = tuple(replace(hit, text=request.passages[hit.index]) for hit in hits)
        (ranking,) = self.reranker.ranking_log.noted([request.query], [Ranking(shown_hits)], None)
        return ranking.id

    def cost(self, request: Question) -> int:
        """Estimate the tokens that the model reads; all chunks of a long passage count."""
        limit = self.reranker.max_window_tokens
        query, *passages = map(estimated_tokens, request.encoded)
        if self._long_passages == "cut":
            return sum(min(limit, each) for each in (query, *passages))
        return min(limit, query) + sum(tokens_read(each, limit) for each in passages)

    def key(self, request: Question) -> bytes:
        """Digest of what decides the scores: texts, loaded model with its calibration, version of the examples.

        Args:
            request: Request.

        Returns:
            Digest; requests that differ in anything else have the same one. A new one each time if the examples have
            no `version`.
        """
        digest = hashlib.blake2b(digest_size=16)
        examples: Any = self.reranker.example_store  # Any: its version may be any attribute, or none
        version = "" if examples is None else getattr(examples, "version", secrets.token_hex())
        for data in (self._mark, version.encode(), *request.encoded):
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)
        return digest.digest()

    def warm_up(self) -> None:
        """Rank sample passages, so that the first request finds everything prepared."""
        for query, passages in sample_rankings()[:2]:
            self.reranker.rank(query, passages, examples=(), log=False)


class Models:
    """Models of a server.

    Args:
        served: Rerankers; the first one is the default.
        classifier: Classifier; None for none.

    Attributes:
        classifier: Classifier; None for none.
    """

    def __init__(self, served: Sequence[ServedModel], classifier: ZeroShotClassifier | None = None) -> None:
        self._by_name = {model.name: model for model in served}
        self._default = served[0].name
        self.classifier = classifier

    @property
    def default(self) -> ServedModel:
        """The default reranker."""
        return self._by_name[self._default]

    @property
    def served(self) -> list[ServedModel]:
        """Rerankers, the default first."""
        return list(self._by_name.values())

    def replace(self, *served: ServedModel, classifier: ZeroShotClassifier | None = None) -> None:
        """Take models in place of those of their names; requests in progress keep theirs."""
        self._by_name |= {model.name: model for model in served}
        self.classifier = classifier or self.classifier

    @property
    def names(self) -> list[str]:
        """Names of the rerankers, the default first."""
        return list(self._by_name)

    def choose(self, name: str | None) -> ServedModel:
        """Model of this name; the default if there is none."""
        return self._by_name.get(name or "", self.default)

    def classify(self, requests: Sequence[ClassifyRequest]) -> list[list[float]]:
        """Logits of each request's labels."""
        assert self.classifier is not None, "refused before"
        return [
            self.classifier.logits(request.text, request.labels, prompt=request.prompt or None) for request in requests
        ]


def load_models(settings: ServeSettings) -> Models:
    """Load and warm up the models of a server.

    Args:
        settings: Settings of the server.

    Returns:
        The models, ready to rank.

    Raises:
        ConfigError: Two models have one name, or a setting does not apply to a model.
        CheckpointError: A model cannot be loaded.
    """
    names: dict[str, str] = {}
    for given in settings.model or (str(settings.reranker.model or DEFAULT_RANKER),):
        name, model = _name_and_model(given)
        if name in names:
            raise ConfigError(f"two models are called {shown(name)}; give one of them another name with `NAME=MODEL`")
        names[name] = model
    # Versions first: one that is switched while it loads is noticed later.
    versions = {name: version_of(model) for name, model in names.items()}
    served = [
        ServedModel(
            name,
            Reranker(**replace(settings.reranker, model=model).loading()),
            versions[name],
            long_passages=settings.reranker.long_passages,
        )
        for name, model in names.items()
    ]
    classifier = None
    if settings.classifier is not None:
        classifier = ZeroShotClassifier(**_classifier_settings(settings))
    for each in served:
        each.warm_up()
    return Models(served, classifier)


def _name_and_model(given: str) -> tuple[str, str]:
    name, is_named, model = given.partition("=")
    return (name, model) if is_named and "/" not in name else (given, given)


def _classifier_settings(settings: ServeSettings) -> dict[str, Any]:  # Any: values of all types
    """Settings of the rerankers that a classifier has too; rankings' examples are none for it."""
    values = settings.reranker.loading()
    return {name: values[name] for name in _SHARED if name in values} | {"model": settings.classifier}


def scores_of(ranking: Ranking) -> Scores:
    """Scores of a ranking; what answers and the cache need of it."""
    # Without the texts, which the cache would hold on to.
    hits = tuple(Hit(hit.index, score=hit.score, logit=hit.logit, judged=hit.judged) for hit in ranking)
    return Scores(hits, ranking.truncated, ranking.truncated_query, ranking.num_tokens)
