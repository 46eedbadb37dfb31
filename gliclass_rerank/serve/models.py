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
from gliclass_rerank.prompt.sample import sample_rankings
from gliclass_rerank.reranker import Reranker
from gliclass_rerank.serve.core import ClassifyRequest, RerankRequest, Scores
from gliclass_rerank.serve.settings import ServeSettings
from gliclass_rerank.types import Hit, Ranking

_BYTES_PER_TOKEN: Final = 4
# Settings of a reranker that hold for the classifier too.
_SHARED: Final[Sequence[str]] = ("device", "dtype", "backend", "threads", "batch_tokens")


class ServedModel:
    """Reranker under the name that requests call it by.

    Args:
        name: Name.
        reranker: Loaded model.
        version: Version that was loaded; None for a model without versions.

    Attributes:
        name: Name.
        reranker: Loaded model.
        version: Version that was loaded.
    """

    def __init__(self, name: str, reranker: Reranker, version: str | None = None) -> None:
        self.name = name
        self.reranker = reranker
        self.version = version
        self._salt = secrets.token_bytes(16)

    def reloaded(self) -> ServedModel:
        """Load the model anew, warmed up: the current one of its versions."""
        fresh = ServedModel(self.name, Reranker(**self.reranker.settings))
        fresh.warm_up()
        return fresh

    def rank(self, requests: Sequence[RerankRequest]) -> list[Scores]:
        """Rank the passages of several requests together."""
        rankings = self.reranker.rank_many(
            [request.query for request in requests], [request.passages for request in requests], log=False
        )
        return list(map(_scores, rankings))

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

    def key(self, request: RerankRequest) -> bytes:
        """Digest of what decides the scores: texts, model (its calibration is part of it) and version of the examples.

        Args:
            request: Request.

        Returns:
            Digest; requests that differ in anything else have the same one. A new one each time if the examples have
            no `version`.
        """
        digest = hashlib.blake2b(self._salt, digest_size=16)
        examples: Any = self.reranker.example_store  # Any: its version may be any attribute, or none
        version = "" if examples is None else getattr(examples, "version", secrets.token_hex())
        for text in (self.name, version, request.query, *request.passages):
            data = text.encode("utf-8", "surrogatepass")
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

    def replace(self, model: ServedModel) -> None:
        """Take a model in place of the one of its name; requests in progress keep theirs."""
        self._by_name[model.name] = model

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
        ServedModel(name, Reranker(**replace(settings.reranker, model=model).loading()), versions[name])
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


def estimated_tokens(texts: Sequence[str], limit: int) -> int:
    """Tokens of texts, four bytes each, of which the model reads `limit` a text at most."""
    return sum(min(limit, 1 + len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN) for text in texts)


def _scores(ranking: Ranking) -> Scores:
    # Without the texts, which the cache would hold on to.
    hits = tuple(Hit(hit.index, score=hit.score, logit=hit.logit, judged=hit.judged) for hit in ranking)
    return Scores(hits, ranking.truncated, ranking.truncated_query, ranking.num_tokens)
