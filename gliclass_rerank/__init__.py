"""Rerank passages with GLiClass, offline from the first second.

Importing this package loads nothing heavy: names are resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gliclass_rerank._version import __version__

if TYPE_CHECKING:
    from gliclass_rerank.classify import ZeroShotClassifier
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
    from gliclass_rerank.rerank import Reranker
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
    "Reranker": "rerank",
    "ZeroShotClassifier": "classify",
    "RerankStage": "stage",
    **dict.fromkeys(("Example", "Hit", "LabelScore", "Ranking", "StageHit", "StageRanking", "Truncation"), "types"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
