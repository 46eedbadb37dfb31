"""Common base of `Reranker` and `ZeroShotClassifier`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from gliclass_rerank.calls.background import in_background
from gliclass_rerank.cascade import Cascade
from gliclass_rerank.checks import is_a, own_text, repaired_text, repaired_texts
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.examples.filters import Where
from gliclass_rerank.examples.judgements import Recalled, text_id
from gliclass_rerank.examples.retrieval import Retrieval
from gliclass_rerank.examples.source import ExampleSource
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.runtime.passage_cache import CacheMeta, StatesDtype
from gliclass_rerank.runtime.resolve import ResolvedRuntime
from gliclass_rerank.settings import ModelSettings
from gliclass_rerank.types import Example

if TYPE_CHECKING:
    from gliclass_rerank.feedback.log import FeedbackLog
    from gliclass_rerank.feedback.ranking_log import RankingLog

logger = logging.getLogger(__name__)

_Model = TypeVar("_Model", bound="LoadedModel")


class LoadedModel:
    """Loaded model with its settings and example store; thread-safe, and immutable except for the store.

    A pickle holds the settings only, and loads the weights again. A copy is the instance itself.

    Args:
        settings: Settings of the caller.
        pipeline: Pipeline or cascade loaded from them.
    """

    def __init__(self, settings: ModelSettings, pipeline: Pipeline | Cascade) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._retrieval = Retrieval(
            settings.example_store,
            num_examples=settings.num_examples,
            min_example_similarity=settings.min_example_similarity,
            allow_same_text=settings.allow_same_text,
        )
        if settings.backend in {None, "auto"}:
            runtime = pipeline.runtime
            quicker = "" if runtime.quicker is None else f"; quicker here: {runtime.quicker}"
            logger.info("%r: %s%s", self, runtime.reason, quicker)

    def __repr__(self) -> str:
        plan = "" if self.plan is None else f"plan={self.plan!r}, "
        return (
            f"<{type(self).__name__} {self.name}: {plan}backend={self.backend!r}, dtype={self.dtype!r}, "
            f"device={str(self.device)!r}>"
        )

    def __reduce__(self: _Model) -> tuple[Callable[..., _Model], tuple[type[_Model], dict[str, Any]]]:
        return _rebuilt, (type(self), self.settings)

    def __copy__(self: _Model) -> _Model:
        return self

    def __deepcopy__(self: _Model, memo: dict[int, Any]) -> _Model:
        return self

    @property
    def settings(self) -> dict[str, Any]:  # Any: JSON values of all types
        """Arguments that differ from their defaults, as JSON values: `type(self)(**settings)` is equivalent.

        Raises:
            ConfigError: `example_store` is an object, not a path.
        """
        return self._settings.to_dict()

    @property
    def name(self) -> str:
        """Name or folder of the checkpoint."""
        return self._pipeline.name

    @property
    def plan(self) -> AttentionPlan | None:
        """Attention plan in use; None for bi-encoders."""
        return self._pipeline.plan

    @property
    def runtime(self) -> ResolvedRuntime:
        """Resolved runtime with its reason; for a cascade the first model's."""
        return self._pipeline.runtime

    @property
    def max_window_tokens(self) -> int:
        """Length of the longest sequence that the model reads, in tokens; for a cascade the first model's."""
        return self._pipeline.max_window_tokens

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.runtime.device

    @property
    def backend(self) -> str:
        """Runtime of the transformer layers: `torch`, `onnx` or `openvino`."""
        return self.runtime.backend

    @property
    def dtype(self) -> str:
        """Precision of the transformer layers: `float32`, `float16`, `bfloat16` or `int8`."""
        return self.runtime.dtype

    @property
    def example_store(self) -> ExampleSource | None:
        """Source of judged examples: the `ExampleStore` of the given path, or the given source."""
        return self._retrieval.source

    def examples_for(self, queries: Sequence[str], *, where: Where = None) -> list[tuple[Example, ...]]:
        """Find the examples of queries, or of texts to classify; a ranking shows those that judge none of its passages.

        Args:
            queries: What is searched for, or classified.
            where: Required metadata values, or a predicate on the metadata.

        Returns:
            For each of them its examples, most similar first; none without a store.

        Raises:
            InputError: An argument has the wrong type.
            BackendError: The store failed, or cannot filter.
        """
        return [recalled.examples for recalled in self.recall(queries, where=where)]

    def recall(
        self, queries: Sequence[str], passages: Sequence[Sequence[str]] | None = None, *, where: Where = None
    ) -> list[Recalled]:
        """Find the examples that are shown beside queries, and the judgements of the queries themselves.

        Args:
            queries: What is searched for, or classified.
            passages: What is ranked for each, to find what judgements of similar queries say of it; None for nothing.
            where: Required metadata values, or a predicate on the metadata.

        Returns:
            Examples and judgements per query; none without a store.

        Raises:
            InputError: An argument has the wrong type.
            BackendError: The store failed, or cannot filter.
        """
        return self._retrieval.recall(repaired_texts("queries", queries).texts, passages=passages, where=where)


class RankerBase(LoadedModel):
    """Base of rerankers: log, judgements and precomputed passages.

    Attributes:
        ranking_log: Log of rankings; None without one.
    """

    ranking_log: RankingLog | None = None

    @property
    def log(self) -> FeedbackLog | None:
        """Feedback log: takes clicks, ratings and grades under `Ranking.id`; None without one."""
        return None if self.ranking_log is None else self.ranking_log.log

    def feedback(
        self,
        query: str,
        relevant: Sequence[str] = (),
        irrelevant: Sequence[str] = (),
        *,
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,  # Any: JSON
        where: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> str:
        """Store judged passages of a query, which decide its later rankings and count in those of similar ones.

        All judgements of a query, regardless of case and white space, form one example; the newest judgement of a
        passage wins. An `ExampleStore` with a path has them on disk when this returns, and other processes see them
        from then on. A log gets them too; without a store, alone.

        Args:
            query: Query; not blank.
            relevant: Relevant passages.
            irrelevant: Irrelevant passages.
            id: Id that keeps these judgements separate; reuse it with the same query to extend them.
            metadata: JSON values; they replace earlier ones under the same keys.
            where: JSON values that become metadata and keep these judgements apart from all others: rankings with the
                same `where` find them, such as those of one tenant.

        Returns:
            Id of the example.

        Raises:
            ConfigError: There is neither store nor log, or the store is not writable.
            InputError: An argument has the wrong type, the query is blank, there is no passage, a passage is both
                relevant and irrelevant, the id belongs to another query, or the store was opened with `read_only=True`.
            BackendError: The store failed.
        """
        query = repaired_text(own_text("`query`", query))
        if not query.strip():
            raise InputError(f"`query` must not be blank, got {shown(query)}")
        good, bad = repaired_texts("relevant", relevant).texts, repaired_texts("irrelevant", irrelevant).texts
        if not good and not bad:
            raise InputError(
                f"`relevant` or `irrelevant` must hold a passage, got {shown(relevant)} and {shown(irrelevant)}"
            )
        for passage in good:
            if passage in bad:
                raise InputError(f"a passage must be either relevant or irrelevant, got {shown(passage)} as both")
        if self.ranking_log is not None:
            self.ranking_log.judge(query, good, bad)
            if self._retrieval.source is None:
                return text_id(query)
        return self._retrieval.learn(Example(query, good, bad), id=id, metadata=metadata, where=where)

    async def afeedback(
        self,
        query: str,
        relevant: Sequence[str] = (),
        irrelevant: Sequence[str] = (),
        *,
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,  # Any: JSON
        where: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> str:
        """Await `feedback` in a worker thread, without blocking the event loop."""
        return await in_background(self.feedback, query, relevant, irrelevant, id=id, metadata=metadata, where=where)

    def precompute(
        self,
        passages: Iterable[str],
        folder: str | Path,
        *,
        dtype: StatesDtype = "float16",
        on_computed: Callable[[int], object] | None = None,
    ) -> CacheMeta:
        """Precompute query-independent passage states for `Reranker(passage_cache=folder)`.

        Passages are truncated as by this reranker; a reranker with another window misses those it truncates
        differently.

        Args:
            passages: Texts, read lazily; duplicates are stored once.
            folder: New folder, which appears when complete.
            dtype: `"float16"`, or `"int8"` with a scale per token: half the size, slightly less exact.
            on_computed: Callback with the number of passages done since the last call.

        Returns:
            Metadata of the cache.

        Raises:
            ConfigError: The checkpoint or plan cannot have a passage cache, the `dtype` is unknown, or the reranker
                does not run in float32.
            InputError: A passage is not a string.
            DataError: The folder exists, or there is no passage.
            BackendError: The forward pass failed, or its states overflow float16.
        """
        if is_a(passages, (str, bytes)) or not is_a(passages, Iterable):
            raise InputError(f"`passages` must hold strings, got {shown(passages)}")
        return self._pipeline.precompute(passages, folder, dtype=dtype, on_computed=on_computed)


def _rebuilt(kind: type[_Model], settings: dict[str, Any]) -> _Model:
    return kind(**settings)
