"""Training for ranking and classification, from JSONL files to a checkpoint; see docs/guide/training.md.

Importing this package loads nothing heavy: names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gliclass_rerank._imports import lazy_names

if TYPE_CHECKING:
    from gliclass_rerank.learn.training.averaging import average, interpolate
    from gliclass_rerank.learn.training.calibrating import CalibrationReport, calibrate
    from gliclass_rerank.learn.training.config import StartConfig, TrainConfig
    from gliclass_rerank.learn.training.folder import Progress
    from gliclass_rerank.learn.training.reports import Report
    from gliclass_rerank.learn.training.source_config import AugmentConfig, DevConfig, LossConfig, SourceConfig
    from gliclass_rerank.learn.training.trainer import Outcome, train

__all__ = [
    "AugmentConfig",
    "CalibrationReport",
    "DevConfig",
    "LossConfig",
    "Outcome",
    "Progress",
    "Report",
    "SourceConfig",
    "StartConfig",
    "TrainConfig",
    "average",
    "calibrate",
    "interpolate",
    "train",
]

_HOMES = {
    **dict.fromkeys(("average", "interpolate"), "averaging"),
    **dict.fromkeys(("CalibrationReport", "calibrate"), "calibrating"),
    **dict.fromkeys(("Outcome", "train"), "trainer"),
    "Progress": "folder",
    "Report": "reports",
    **dict.fromkeys(("AugmentConfig", "DevConfig", "LossConfig", "SourceConfig"), "source_config"),
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _HOMES, otherwise="config")
