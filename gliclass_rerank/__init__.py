"""Reranking and zero-shot classification with GLiClass, offline by default.

Importing this package loads nothing heavy: names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gliclass_rerank._imports import lazy_names
from gliclass_rerank._version import __version__

if TYPE_CHECKING:
    from gliclass_rerank.classifier import ZeroShotClassifier
    from gliclass_rerank.errors import (
        BackendError,
        CheckpointError,
        ConfigError,
        DataError,
        GLiClassRerankError,
        InputError,
        MissingDependencyError,
        OutOfMemoryError,
        WindowOverflowError,
    )
    from gliclass_rerank.reranker import Reranker
    from gliclass_rerank.stage import RerankStage
    from gliclass_rerank.types import Example, Hit, LabelScore, Ranking, StageHit, StageRanking, Truncation

__all__ = [
    "BackendError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Example",
    "GLiClassRerankError",
    "Hit",
    "InputError",
    "LabelScore",
    "MissingDependencyError",
    "OutOfMemoryError",
    "Ranking",
    "RerankStage",
    "Reranker",
    "StageHit",
    "StageRanking",
    "Truncation",
    "WindowOverflowError",
    "ZeroShotClassifier",
    "__version__",
]

_HOMES = {
    "Reranker": "reranker",
    "ZeroShotClassifier": "classifier",
    "RerankStage": "stage",
    **dict.fromkeys(("Example", "Hit", "LabelScore", "Ranking", "StageHit", "StageRanking", "Truncation"), "types"),
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _HOMES, otherwise="errors")
