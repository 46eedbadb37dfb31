"""Workshop: evaluation, data, training, and learning from a feedback log.

Importing this package loads nothing heavy: names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gliclass_rerank._imports import lazy_names

if TYPE_CHECKING:
    from gliclass_rerank.learn.updating.learning import Learned, learn
    from gliclass_rerank.learn.updating.settings import LearnSettings
    from gliclass_rerank.learn.updating.versions import Version, rollback, versions

__all__ = ["LearnSettings", "Learned", "Version", "learn", "rollback", "versions"]

_HOMES = {
    **dict.fromkeys(("Learned", "learn"), "updating.learning"),
    "LearnSettings": "updating.settings",
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _HOMES, otherwise="updating.versions")
