"""Reranking and zero-shot classification with GLiClass, offline by default.

Importing this package loads nothing heavy: names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gliclass_rerank._imports import MovedModules, lazy_names
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
    from gliclass_rerank.settings import RerankerSettings
    from gliclass_rerank.stage import ContextPruner, PrunedPassage, RerankStage
    from gliclass_rerank.types import (
        Classification,
        Example,
        Hit,
        LabelScore,
        Ranking,
        Span,
        StageHit,
        StageRanking,
        Truncation,
        UnknownTokens,
    )

__all__ = [
    "BackendError",
    "CheckpointError",
    "Classification",
    "ConfigError",
    "ContextPruner",
    "DataError",
    "Example",
    "GLiClassRerankError",
    "Hit",
    "InputError",
    "LabelScore",
    "MissingDependencyError",
    "OutOfMemoryError",
    "PrunedPassage",
    "Ranking",
    "RerankStage",
    "Reranker",
    "RerankerSettings",
    "Span",
    "StageHit",
    "StageRanking",
    "Truncation",
    "UnknownTokens",
    "WindowOverflowError",
    "ZeroShotClassifier",
    "__version__",
]

_HOMES = {
    "Reranker": "reranker",
    "ZeroShotClassifier": "classifier",
    "RerankerSettings": "settings",
    **dict.fromkeys(("ContextPruner", "PrunedPassage", "RerankStage"), "stage"),
    **dict.fromkeys(
        (
            "Classification",
            "Example",
            "Hit",
            "LabelScore",
            "Ranking",
            "Span",
            "StageHit",
            "StageRanking",
            "Truncation",
            "UnknownTokens",
        ),
        "types",
    ),
}

# Module names of version 0.1, which work until the next release; what was inside a package has moved with it.
_MOVED = {
    "assemble": "learn.assemble",
    "classify": "classifier",
    "evaluation": "learn.evaluation",
    "evaluation_adapters": "learn.evaluation.adapters",
    "mining": "learn.data",
    "mining.command": "learn.data.mining_command",
    "mining.pool": "learn.data.passage_pool",
    "preparation": "learn.data",
    "preparation.command": "learn.data.rac_command",
    "preparation.pool": "learn.data.example_pool",
    "rac": "examples",
    "rerank": "reranker",
    "runtimes": "text_models",
    "training": "learn.training",
}

MovedModules(__name__, _MOVED).install()

__getattr__, __dir__ = lazy_names(__name__, __all__, _HOMES, otherwise="errors")
