"""Common base of `Reranker` and `ZeroShotClassifier`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from gliclass_rerank.cascade import Cascade
from gliclass_rerank.checks import checked_texts
from gliclass_rerank.examples.retrieval import Retrieval
from gliclass_rerank.examples.source import ExampleSource
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.runtime.resolve import ResolvedRuntime
from gliclass_rerank.settings import ModelSettings
from gliclass_rerank.types import Example

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

    def examples_for(self, queries: Sequence[str]) -> list[tuple[Example, ...]]:
        """Find the examples that are shown beside queries, or beside texts to classify.

        Args:
            queries: What is searched for, or classified.

        Returns:
            For each of them its examples, most similar first; none without a store.

        Raises:
            InputError: Not a list of strings.
            BackendError: The store failed.
        """
        return self._retrieval.shown(checked_texts("queries", queries))


def _rebuilt(kind: type[_Model], settings: dict[str, Any]) -> _Model:
    return kind(**settings)
