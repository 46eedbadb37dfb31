"""Base of `Reranker` and `ZeroShotClassifier`: a loaded model, its settings and its store of examples."""

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
    """A loaded model. It does not change after construction, but for what its store learns, and threads may share it.

    A pickle carries the settings: weights are read where it is loaded. A copy is the instance itself.

    Args:
        settings: What was asked for.
        pipeline: What was loaded for it.
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
        """The arguments that differ from their defaults, as JSON values: `type(self)(**settings)` is its equal.

        Raises:
            ConfigError: `example_store` is an object, not a path.
        """
        return self._settings.to_dict()

    @property
    def name(self) -> str:
        """The checkpoint's name or folder, or the bundled model's name."""
        return self._pipeline.name

    @property
    def plan(self) -> AttentionPlan | None:
        """The attention plan in use; None for bi-encoders."""
        return self._pipeline.plan

    @property
    def runtime(self) -> ResolvedRuntime:
        """Backend, device, precision and threads, and why; of a cascade the first model's."""
        return self._pipeline.runtime

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.runtime.device

    @property
    def backend(self) -> str:
        """What runs the transformer layers: `torch`, `onnx` or `openvino`."""
        return self.runtime.backend

    @property
    def dtype(self) -> str:
        """The precision they run in: `float32`, `float16`, `bfloat16` or `int8`."""
        return self.runtime.dtype

    @property
    def example_store(self) -> ExampleSource | None:
        """Where examples come from: the `ExampleStore` of the path that was given, or the source itself."""
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
