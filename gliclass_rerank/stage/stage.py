"""Reranking step of a RAG pipeline, between retriever and LLM; framework adapters only translate to it.

Importing this module loads no torch: the model is loaded at first use or in `warm_up`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from gliclass_rerank.calls.background import in_background
from gliclass_rerank.checks import (
    as_number,
    checked_choice,
    checked_count,
    checked_flag,
    checked_list,
    checked_share,
    checked_text,
    checked_texts,
    is_a,
    json_settings,
    of_settings,
    reading,
)
from gliclass_rerank.errors import (
    BackendError,
    CheckpointError,
    ConfigError,
    DataError,
    InputError,
    MissingDependencyError,
    WindowOverflowError,
    listed,
    shown,
)
from gliclass_rerank.examples.forks import ForkedLock
from gliclass_rerank.examples.source import checked_store
from gliclass_rerank.settings import RerankerSettings, current_names, taking
from gliclass_rerank.stage.fusion import Fusion, reciprocal_rank, weighted
from gliclass_rerank.types import Example, StageHit, StageRanking

if TYPE_CHECKING:
    from gliclass_rerank.reranker import Reranker

OnError = Literal["raise", "keep_order"]

# Failures of a running service with correct code: the model or store cannot be loaded or fails, or a query
# outgrows the window.
_FAILURES: Final = (BackendError, CheckpointError, DataError, MissingDependencyError, WindowOverflowError)


@dataclass(frozen=True)
class StageSettings(RerankerSettings):
    """Settings of a `RerankStage`: the reranker's, and the policy."""

    _: KW_ONLY
    reranker: Reranker | Mapping[str, Any] | None = None  # Any: the settings' values
    """Existing `Reranker`, or its settings, in place of the settings above."""
    top_k: int | None = None
    """Maximum number of passages to return; None for all."""
    score_threshold: float | None = None
    """Minimum score of the reranker, in [0, 1], before `top_k` and regardless of fusion; None for none."""
    min_answerable: float | None = None
    """Minimum `Ranking.answerable`, in [0, 1]: below it no passage is returned; None for none."""
    query_prefix: str = ""
    """Prefix of each query."""
    passage_prefix: str = ""
    """Prefix of each passage that is not blank."""
    fusion: Fusion | None = None
    """Fusion with the retriever: `"reciprocal_rank"` of both orders, `"weighted"` mean of both scores, or None."""
    fusion_weight: float = 0.5
    """Weight of the reranker in the fused score, in [0, 1]."""
    examples: Sequence[Example | Mapping[str, Any]] | None = None  # Any: upstream's JSON-like examples
    """Judged examples shown with every query, in place of the store's."""
    on_error: OnError = "raise"
    """`"raise"`, or `"keep_order"`: return the retriever's order, unscored, with the reason in `StageRanking.error`, if
    the model or store fails or the query does not fit. Wrong arguments always raise.
    """
    keep_retrieval_score: bool = False
    """Report the retriever's score in `notes`."""
    report_truncation: bool = False
    """Report the number of truncated tokens in `notes`."""


class RerankStage:
    """Reranking step of a RAG pipeline; thread-safe.

    The model is loaded once, at first use. Copies share it; a pickle holds the settings only.

    Args:
        settings: Fields of `StageSettings` by name; the first one, `model`, also by position.

    Raises:
        ConfigError: A setting is unknown or inconsistent.
    """

    @taking(StageSettings)
    def __init__(self, settings: StageSettings) -> None:
        self._lock = ForkedLock()
        self._reranker, self._loading = _source(settings.loading(), settings.reranker)
        self._is_shared = self._reranker is not None
        top_k, threshold, examples = settings.top_k, settings.score_threshold, settings.examples
        answerable = settings.min_answerable
        with of_settings():
            self._fusion = checked_choice("fusion", settings.fusion, (None, *get_args(Fusion)))
            self._on_error = checked_choice("on_error", settings.on_error, get_args(OnError))
            self._keep_retrieval_score = checked_flag("keep_retrieval_score", settings.keep_retrieval_score)
            self._report_truncation = checked_flag("report_truncation", settings.report_truncation)
            self._top_k = None if top_k is None else checked_count("top_k", top_k)
            self._threshold = None if threshold is None else checked_share("score_threshold", threshold)
            self._min_answerable = None if answerable is None else checked_share("min_answerable", answerable)
            self._weight = checked_share("fusion_weight", settings.fusion_weight)
            self._query_prefix = checked_text("`query_prefix`", settings.query_prefix)
            self._passage_prefix = checked_text("`passage_prefix`", settings.passage_prefix)
            self._examples = None if examples is None else Example.list_of(examples)

    def __getstate__(self) -> dict[str, Any]:
        shared = self._reranker if self._is_shared else None
        loading = RerankerSettings(**self._loading).to_dict() if shared is None else shared.settings
        return {**self.__dict__, "_lock": None, "_reranker": None, "_is_shared": False, "_loading": loading}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=ForkedLock())

    def __copy__(self) -> RerankStage:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RerankStage:
        return self

    def warm_up(self) -> None:
        """Load the model and open the store, once across threads.

        Raises:
            ConfigError: The checkpoint, store or machine does not support a setting.
            CheckpointError: The checkpoint cannot be loaded; under `"keep_order"` the next `run` retries and reports
                it.
            DataError: The store cannot be opened; likewise.
        """
        try:
            self._loaded()
        except _FAILURES:
            if self._on_error == "raise":
                raise

    def close(self) -> None:
        """Release the model and the store, which the next use loads again. Objects passed in stay open."""
        with self._lock:
            if not self._is_shared:
                self._reranker = None

    def run(
        self,
        query: str,
        passages: Sequence[str],
        retrieval_scores: Sequence[float | None] | None = None,
        *,
        top_k: int | None = None,
        score_threshold: float | None = None,
        examples: Sequence[Example | Mapping[str, Any]] | None = None,  # Any: upstream's JSON-like examples
    ) -> StageRanking:
        """Rerank retrieved passages.

        Args:
            query: Query; not blank.
            passages: Retrieved passages, best first; may be empty. Blank ones skip the model and come last, with score
                0.
            retrieval_scores: The retriever's scores, higher is better; NaN and infinity count as None. Required by
                `"weighted"` fusion.
            top_k: Maximum number of passages; None for the constructor's.
            score_threshold: Minimum score of the reranker; None for the constructor's.
            examples: Judged examples; None for the constructor's, an empty list for none.

        Returns:
            Each passage at most once; none where `answerable` is below `min_answerable`.

        Raises:
            ConfigError: `min_answerable` is set, and the checkpoint is not calibrated for it.
            InputError: An argument has the wrong type or length, the query is blank, or fusion lacks a retrieval score.
            WindowOverflowError: The query leaves no room for a passage.
            CheckpointError: The checkpoint cannot be loaded.
            DataError: The store cannot be opened.
            BackendError: The forward pass or the store failed.
        """
        limit = self._top_k if top_k is None else checked_count("top_k", top_k)
        threshold = self._threshold if score_threshold is None else checked_share("score_threshold", score_threshold)
        query = checked_text("`query`", query)
        if not query.strip():
            raise InputError(f"`query` must not be blank, got {shown(query)}")
        texts = checked_texts("passages", passages)
        found = _retrieval_scores(retrieval_scores, len(texts))
        if self._fusion == "weighted" and None in found:
            raise InputError(
                f"weighted fusion needs the retrieval score of each passage, got None at {found.index(None)}"
            )
        try:
            hits, answerable = self._rerank(query, texts, found, examples)
        except _FAILURES as error:
            if self._on_error == "raise":
                raise
            kept = tuple(StageHit(index, None, retrieval_score=score) for index, score in enumerate(found))
            return StageRanking(kept[:limit], error=f"{type(error).__name__}: {error}")
        if self._min_answerable is not None and (answerable or 0.0) < self._min_answerable:
            hits = []
        if threshold is not None:
            hits = [hit for hit in hits if hit.rerank_score is not None and hit.rerank_score >= threshold]
        return StageRanking(tuple(hits[:limit]), answerable=answerable)

    async def arun(
        self,
        query: str,
        passages: Sequence[str],
        retrieval_scores: Sequence[float | None] | None = None,
        *,
        top_k: int | None = None,
        score_threshold: float | None = None,
        examples: Sequence[Example | Mapping[str, Any]] | None = None,  # Any: upstream's JSON-like examples
    ) -> StageRanking:
        """Await `run` in a worker thread, without blocking the event loop."""
        return await in_background(
            self.run,
            query,
            passages,
            retrieval_scores,
            top_k=top_k,
            score_threshold=score_threshold,
            examples=examples,
        )

    def notes(self, hit: StageHit, ranking: StageRanking) -> dict[str, float | int | str]:
        """Metadata to keep with a passage, as JSON values under names common to all adapters.

        Args:
            hit: Hit of the ranking.
            ranking: Result of `run`.

        Returns:
            `retrieval_score` if kept and known; `rerank_score` under fusion; `rerank_tokens_lost` if reported and above
            0; `rerank_error` if the retriever's order was kept.
        """
        notes: dict[str, float | int | str] = {}
        if self._keep_retrieval_score and hit.retrieval_score is not None:
            notes["retrieval_score"] = hit.retrieval_score
        if self._fusion is not None and hit.rerank_score is not None:
            notes["rerank_score"] = hit.rerank_score
        if self._report_truncation and hit.tokens_lost:
            notes["rerank_tokens_lost"] = hit.tokens_lost
        if ranking.error is not None:
            notes["rerank_error"] = ranking.error
        return notes

    def _loaded(self) -> Reranker:
        # Two statements instead of one `with`: a loaded model must not wait for another load.
        reranker = self._reranker
        if reranker is not None:
            return reranker
        with self._lock:
            if self._reranker is None:
                self._reranker = _reranker_type()(**self._loading)
            return self._reranker

    def _rerank(
        self,
        query: str,
        texts: Sequence[str],
        found: Sequence[float | None],
        examples: Sequence[Example | Mapping[str, Any]] | None,
    ) -> tuple[list[StageHit], float | None]:
        """All passages, best first, and the probability that any of them answers the query."""
        written = [index for index, text in enumerate(texts) if text.strip()]
        blank = [index for index, text in enumerate(texts) if not text.strip()]
        scores, lost, order, answerable = [0.0] * len(texts), [0] * len(texts), list[int](), None
        if written:
            reranker = self._loaded()
            shown = self._examples if examples is None else examples
            if shown is None:
                # Looked up without the prefix, which would hide equal queries.
                (shown,) = reranker.examples_for([query])
            ranking = reranker.rank(
                self._query_prefix + query,
                [self._passage_prefix + texts[index] for index in written],
                examples=shown,
            )
            answerable = ranking.answerable
            if answerable is None and self._min_answerable is not None:
                raise ConfigError(f"`min_answerable` needs a model calibrated for it, got {listed([reranker.name])}")
            for hit in ranking:
                order.append(written[hit.index])
                scores[order[-1]] = hit.score
            for truncation in ranking.truncated:
                lost[written[truncation.index]] = truncation.num_lost
        fused = self._fused(order, scores, found)
        if self._fusion is not None:
            order.sort(key=lambda index: (-fused[index], index))
        hits = [StageHit(index, fused[index], scores[index], found[index], lost[index]) for index in order + blank]
        return hits, answerable

    def _fused(self, order: Sequence[int], scores: list[float], found: Sequence[float | None]) -> list[float]:
        """Sort value of each passage; 0 for blank ones, which are not in `order`."""
        if self._fusion is None:
            return scores
        if self._fusion == "reciprocal_rank":
            by_place = reciprocal_rank(order, weight=self._weight)
        else:
            theirs = [found[index] or 0.0 for index in order]  # none is None: checked in `run`
            values = weighted([scores[index] for index in order], theirs, self._weight)
            by_place = dict(zip(order, values, strict=True))
        return [by_place.get(index, 0.0) for index in range(len(scores))]


def _source(
    loading: Mapping[str, Any],
    reranker: Reranker | Mapping[str, Any] | None,  # Any: the settings' values
) -> tuple[Reranker | None, dict[str, Any]]:
    """Existing reranker, if any, and the arguments to load one."""
    given = {name: value for name, value in loading.items() if value is not None}
    if reranker is None:
        return None, _loadable(given)
    if given:
        raise ConfigError(f"pass either `reranker` or {listed(given)}, not both")
    if is_a(reranker, Mapping):
        known = [each.name for each in fields(RerankerSettings)]
        with of_settings(), reading("`reranker`"):
            settings = dict(reranker)  # type: ignore[arg-type] # a mapping
            settings = current_names(settings, stacklevel=5)  # as if its owner had passed them to the stage
            unknown = [str(name) for name in settings if name not in known]
        if unknown:
            raise ConfigError(f"`reranker` may have the settings {listed(known)}, got {listed(unknown)}")
        return None, _loadable(settings)
    if not is_a(reranker, _reranker_type()):
        raise ConfigError(f"`reranker` must be a `Reranker` or its settings, got {shown(reranker)}")
    return reranker, {}  # type: ignore[return-value] # one


def _loadable(settings: Mapping[str, Any]) -> dict[str, Any]:  # Any: the settings' values
    """Settings as JSON values, except a store object."""
    store = checked_store(settings.get("example_store"))
    plain = json_settings({name: value for name, value in settings.items() if name != "example_store"})
    return plain if store is None else {**plain, "example_store": store}


def _reranker_type() -> type[Reranker]:
    # Late, because it imports torch.
    return import_module("gliclass_rerank.reranker").Reranker  # type: ignore[no-any-return] # a module is untyped


def _retrieval_scores(values: Sequence[float | None] | None, count: int) -> list[float | None]:
    if values is None:
        return [None] * count
    given = checked_list("retrieval_scores", values, "numbers")
    if len(given) != count:
        raise InputError(f"`retrieval_scores` must hold one number for each of the {count} passages, got {len(given)}")
    return [_retrieval_score(index, value) for index, value in enumerate(given)]


def _retrieval_score(index: int, value: object) -> float | None:
    if value is None:
        return None
    number = as_number(value)
    if number is None:
        raise InputError(f"`retrieval_scores[{index}]` must be a number, got {shown(value)}")
    # A NaN from a retriever must not stop a pipeline that ignores its scores.
    return number if math.isfinite(number) else None
