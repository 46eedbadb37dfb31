"""Logs opened by path: a reranker's, with its model's version, and the process-wide registry."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from gliclass_rerank.calls.fork_hooks import ForkedLock
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL, locate
from gliclass_rerank.checks import checked_count, checked_flag, checked_path, of_settings, reading
from gliclass_rerank.feedback.log import FeedbackLog
from gliclass_rerank.feedback.ranking_log import RankingLog
from gliclass_rerank.files.digests import folder_digest
from gliclass_rerank.settings import RerankerSettings

_VERSION_DIGITS: Final = 12
_Key = tuple[Path, bool, int | None]
_logs: WeakValueDictionary[_Key, FeedbackLog] = WeakValueDictionary()
_turn = ForkedLock()


def opened_log(path: str | Path, *, keep_texts: bool, keep_days: int | None) -> FeedbackLog:
    """Open a log, or share the one already open in this process with the same settings.

    Args:
        path: Log file; created if missing.
        keep_texts: As for `FeedbackLog`.
        keep_days: As for `FeedbackLog`.

    Returns:
        The log, which closes when nobody references it.

    Raises:
        InputError: The path's folder does not exist, or an argument has the wrong type.
        DataError: The file is no log, damaged, of another format, or locked by another program.
    """
    with reading("`log`"):
        place = checked_path("log", path).resolve()
    with _turn:
        log = _logs.get((place, keep_texts, keep_days))
        if log is None or log.is_closed:
            log = _logs[place, keep_texts, keep_days] = FeedbackLog(place, keep_texts=keep_texts, keep_days=keep_days)
        return log


def ranking_log(settings: RerankerSettings, name: str) -> RankingLog | None:
    """Open the log of a reranker.

    Args:
        settings: Settings of the reranker.
        name: Name of its model.

    Returns:
        The log, which knows the model's version; None if the settings name no log.

    Raises:
        ConfigError: A setting of the log has the wrong type.
        DataError: The log cannot be opened.
    """
    if settings.log is None:
        return None
    with of_settings():
        texts = checked_flag("log_texts", settings.log_texts)
        days = None if settings.log_days is None else checked_count("log_days", settings.log_days)
        log = opened_log(settings.log, keep_texts=texts, keep_days=days)
    folder = locate(settings.model or DEFAULT_MODEL, revision=settings.revision)
    return RankingLog(log, f"{name}@{folder_digest(folder, is_sampled=True)[:_VERSION_DIGITS]}")
