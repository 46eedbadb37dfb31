"""Log of rankings that were shown, and of what users did with them.

Importing this package loads nothing heavy: names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gliclass_rerank._imports import lazy_names

if TYPE_CHECKING:
    from gliclass_rerank.feedback.entries import LoggedRanking, ShownPassage, Signal
    from gliclass_rerank.feedback.log import FeedbackLog

__all__ = ["FeedbackLog", "LoggedRanking", "ShownPassage", "Signal"]

__getattr__, __dir__ = lazy_names(__name__, __all__, {"FeedbackLog": "log"}, otherwise="entries")
