"""What a reranker and a classifier tell of the model and the store that they hold."""

from __future__ import annotations

from gliclass_rerank.cascade import Cascade
from gliclass_rerank.examples.retrieval import Retrieval
from gliclass_rerank.examples.source import ExampleSource
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.pipeline import Scorer


class Loaded:
    """Base of what holds a model, and perhaps a store of examples; subclasses set both when they are made."""

    _scorer: Scorer | Cascade
    _retrieval: Retrieval

    @property
    def name(self) -> str:
        """The checkpoint's name or folder, or the bundled model's name."""
        return self._scorer.name

    @property
    def plan(self) -> AttentionPlan | None:
        """The attention plan in use; None for bi-encoders."""
        return self._scorer.plan

    @property
    def backend(self) -> str:
        """What runs the transformer layers: `torch`, `onnx` or `openvino`; of a cascade the first model's."""
        return self._scorer.backend

    @property
    def dtype(self) -> str:
        """The precision they run in: `float32`, `float16`, `bfloat16` or `int8`."""
        return self._scorer.dtype

    @property
    def example_store(self) -> ExampleSource | None:
        """Where examples come from: the `ExampleStore` of the path that was given, or the source itself."""
        return self._retrieval.source
