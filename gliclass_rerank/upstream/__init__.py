"""Names, arguments and results of the `gliclass` package, over `ZeroShotClassifier`.

A program moves over by changing one import line; docs/guide/from-gliclass.md lists what differs. Importing this package
loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gliclass_rerank._imports import lazy_names

if TYPE_CHECKING:
    from gliclass_rerank.upstream.loading import GLiClassBiEncoder, GLiClassModel
    from gliclass_rerank.upstream.pipelines import (
        ZeroShotClassificationPipeline,
        ZeroShotClassificationWithChunkingPipeline,
    )

__all__ = [
    "GLiClassBiEncoder",
    "GLiClassModel",
    "ZeroShotClassificationPipeline",
    "ZeroShotClassificationWithChunkingPipeline",
]

__getattr__, __dir__ = lazy_names(
    __name__, __all__, dict.fromkeys(("GLiClassBiEncoder", "GLiClassModel"), "loading"), otherwise="pipelines"
)
