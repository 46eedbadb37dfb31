"""Reranker of a stage: loaded once, at first use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gliclass_rerank.calls.fork_hooks import ForkedLock
from gliclass_rerank.errors import (
    BackendError,
    CheckpointError,
    DataError,
    MissingDependencyError,
    WindowOverflowError,
)
from gliclass_rerank.settings import RerankerSettings
from gliclass_rerank.stage.arguments import reranker_or_settings, reranker_type

if TYPE_CHECKING:
    from typing_extensions import Self

    from gliclass_rerank.reranker import Reranker

# Failures of a running service with correct code: the model or store cannot be loaded or fails, or a query
# outgrows the window.
FAILURES: Final = (BackendError, CheckpointError, DataError, MissingDependencyError, WindowOverflowError)


class LazyReranker:
    """Reranker that is loaded once, at first use; thread-safe.

    Copies share it; a pickle holds the settings only.

    Args:
        settings: Settings of the reranker, and perhaps of a stage.
        reranker: Existing reranker, or its settings, in place of them.

    Raises:
        ConfigError: Neither a reranker nor its settings, or other settings beside it.
    """

    _on_error: str

    def __init__(self, settings: RerankerSettings, reranker: Reranker | Mapping[str, Any] | None) -> None:
        self._lock = ForkedLock()
        self._reranker, self._loading = reranker_or_settings(settings.loading(), reranker)
        self._is_shared = self._reranker is not None

    def __getstate__(self) -> dict[str, Any]:
        shared = self._reranker if self._is_shared else None
        loading = RerankerSettings(**self._loading).to_dict() if shared is None else shared.settings
        return {**self.__dict__, "_lock": None, "_reranker": None, "_is_shared": False, "_loading": loading}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=ForkedLock())

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def warm_up(self) -> None:
        """Load the model and open the store, once across threads.

        Raises:
            ConfigError: The checkpoint, store or machine does not support a setting.
            CheckpointError: The checkpoint cannot be loaded; unless `on_error` is `"raise"`, the next `run` retries and
                reports it.
            DataError: The store cannot be opened; likewise.
        """
        try:
            self._loaded()
        except FAILURES:
            if self._on_error == "raise":
                raise

    def close(self) -> None:
        """Release the model and the store, which the next use loads again. Objects passed in stay open."""
        with self._lock:
            if not self._is_shared:
                self._reranker = None

    def _loaded(self) -> Reranker:
        # Two statements instead of one `with`: a loaded model must not wait for another load.
        reranker = self._reranker
        if reranker is not None:
            return reranker
        with self._lock:
            if self._reranker is None:
                self._reranker = reranker_type()(**self._loading)
            return self._reranker
