"""Reranking step of a RAG pipeline, between retriever and LLM; framework adapters only translate to it.

Importing this module loads no torch: the model is loaded at first use or in `warm_up`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from gliclass_rerank.calls.background import in_background
from gliclass_rerank.checks import (
    checked_choice,
    checked_count,
    checked_flag,
    checked_share,
    checked_text,
    of_settings,
    own_text,
    repaired_texts,
)
from gliclass_rerank.errors import (
    ConfigError,
    DataError,
    InputError,
    listed,
    shown,
)
from gliclass_rerank.examples.judgements import judged_first
from gliclass_rerank.settings import RerankerSettings, taking
from gliclass_rerank.stage.arguments import checked_ids, checked_retrieval_scores
from gliclass_rerank.stage.fusion import Fusion, reciprocal_rank, weighted
from gliclass_rerank.stage.lazy import FAILURES, LazyReranker
from gliclass_rerank.types import Example, Extent, Judged, StageHit, StageRanking

if TYPE_CHECKING:
    from gliclass_rerank.examples.filters import Where
    from gliclass_rerank.reranker import Reranker

OnError = Literal["raise", "keep_order"]

logger = logging.getLogger(__name__)


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
    """Report in `notes` the number of truncated tokens, the best chunk, and repaired texts."""


class RerankStage(LazyReranker):
    """Reranking step of a RAG pipeline; thread-safe.

    The model is loaded once, at first use. Copies share it; a pickle holds the settings only.

    Args:
        settings: Fields of `StageSettings` by name; the first one, `model`, also by position.

    Raises:
        ConfigError: A setting is unknown or inconsistent.
    """

    @taking(StageSettings)
    def __init__(self, settings: StageSettings) -> None:
        super().__init__(settings, settings.reranker)
        self._has_warned = False
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
            self._examples = None if examples is None else [each.complete() for each in Example.list_of(examples)]

    def run(
        self,
        query: str,
        passages: Sequence[str],
        retrieval_scores: Sequence[float | None] | None = None,
        *,
        top_k: int | None = None,
        score_threshold: float | None = None,
        examples: Sequence[Example | Mapping[str, Any]] | None = None,  # Any: upstream's JSON-like examples
        where: Where = None,
        ids: Sequence[str | None] | None = None,
    ) -> StageRanking:
        """Rerank retrieved passages.

        Args:
            query: Query; not blank.
            passages: Retrieved passages, best first; may be empty. Blank ones skip the model and come last, with score
                0, and so do None and others that are no strings. Invalid Unicode is replaced by U+FFFD.
            retrieval_scores: The retriever's scores, higher is better; NaN and infinity count as None. Required by
                `"weighted"` fusion.
            top_k: Maximum number of passages; None for the constructor's.
            score_threshold: Minimum score of the reranker; None for the constructor's.
            examples: Judged examples; None for the constructor's, an empty list for none.
            where: Metadata values that the store's examples must have, or a predicate on the metadata; None for all.
            ids: The caller's id of each passage, for the log; None for none.

        Returns:
            Each passage at most once; none where `answerable` is below `min_answerable`.

        Raises:
            ConfigError: `min_answerable` is set, and the checkpoint is not calibrated for it.
            InputError: An argument has the wrong type or length, the query is blank, or fusion lacks a retrieval score.
            WindowOverflowError: The query leaves no room for a passage; with `long_query="error"`.
            CheckpointError: The checkpoint cannot be loaded.
            DataError: The store cannot be opened.
            BackendError: The forward pass or the store failed.
        """
        limit = self._top_k if top_k is None else checked_count("top_k", top_k)
        threshold = self._threshold if score_threshold is None else checked_share("score_threshold", score_threshold)
        query = own_text("`query`", query)
        if not query.strip():
            raise InputError(f"`query` must not be blank, got {shown(query)}")
        texts, repaired, *_ = repaired_texts("passages", passages, blanks_others=True)
        found = checked_retrieval_scores(retrieval_scores, len(texts))
        names = checked_ids(ids, len(texts))
        if self._fusion == "weighted" and None in found:
            index = found.index(None)
            score = None if retrieval_scores is None else retrieval_scores[index]
            wanted = "weighted fusion needs the retrieval score of each passage, a finite number"
            raise InputError(f"{wanted}, got {shown(score)} at {index}")
        try:
            ranking = self._rerank(query, texts, found, examples, where)
        except FAILURES as error:
            if self._on_error == "raise":
                raise
            if isinstance(error, DataError):
                self._warn(error)
            kept = tuple(StageHit(index, None, retrieval_score=score) for index, score in enumerate(found))
            return StageRanking(kept[:limit], error=f"{type(error).__name__}: {error}")
        hits = ranking.hits
        if self._min_answerable is not None and (ranking.answerable or 0.0) < self._min_answerable:
            hits = ()
        if threshold is not None:
            hits = tuple(hit for hit in hits if hit.rerank_score is not None and hit.rerank_score >= threshold)
        marked = (replace(hit, is_repaired=True) if hit.index in repaired else hit for hit in hits[:limit])
        return self._logged(query, texts, names, replace(ranking, hits=tuple(marked)), where)

    async def arun(
        self,
        query: str,
        passages: Sequence[str],
        retrieval_scores: Sequence[float | None] | None = None,
        *,
        top_k: int | None = None,
        score_threshold: float | None = None,
        examples: Sequence[Example | Mapping[str, Any]] | None = None,  # Any: upstream's JSON-like examples
        where: Where = None,
        ids: Sequence[str | None] | None = None,
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
            where=where,
            ids=ids,
        )

    def notes(self, hit: StageHit, ranking: StageRanking) -> dict[str, float | int | str]:
        """Metadata to keep with a passage, as JSON values under names common to all adapters.

        Args:
            hit: Hit of the ranking.
            ranking: Result of `run`.

        Returns:
            `retrieval_score` if kept and known; `rerank_score` under fusion; `rerank_judged` (`"relevant"` or
            `"irrelevant"`) if the store has a judgement for this very query; `ranking_id` and `ranking_index` for
            `reranker.log`, with a log; `rerank_error` if the retriever's order was kept. If reported:
            `rerank_tokens_lost` and `rerank_query_tokens_lost` above 0; `rerank_chunk_start` and `rerank_chunk_end`,
            characters of the ranked text, of a passage that was split; `rerank_repaired` and `rerank_query_repaired`
            True where U+FFFD replaced invalid Unicode.
        """
        notes: dict[str, float | int | str] = {}
        if self._keep_retrieval_score and hit.retrieval_score is not None:
            notes["retrieval_score"] = hit.retrieval_score
        if self._fusion is not None and hit.rerank_score is not None:
            notes["rerank_score"] = hit.rerank_score
        if self._report_truncation:
            notes |= _report(hit, ranking)
        if hit.judged is not None:
            notes["rerank_judged"] = hit.judged
        if ranking.id is not None:
            notes["ranking_id"], notes["ranking_index"] = ranking.id, hit.index
        if ranking.error is not None:
            notes["rerank_error"] = ranking.error
        return notes

    def _rerank(
        self,
        query: str,
        texts: Sequence[str],
        found: Sequence[float | None],
        examples: Sequence[Example | Mapping[str, Any]] | None,
        where: Where,
    ) -> StageRanking:
        written = [index for index, text in enumerate(texts) if text.strip()]
        blank = [StageHit(index, 0.0, 0.0, found[index]) for index, text in enumerate(texts) if not text.strip()]
        if not written:
            return StageRanking(tuple(blank))
        reranker = self._loaded()
        shown = self._examples if examples is None else examples
        judged: list[Judged | None] = [None] * len(texts)
        asked, passages = self._query_prefix + query, [self._passage_prefix + texts[index] for index in written]
        # Not logged: what this stage returns is what is shown.
        if shown is None and reranker.example_store is not None:
            # Looked up without the prefixes, which would hide equal texts.
            (recalled,) = reranker.recall([query], [[texts[index] for index in written]], where=where)
            judged = recalled.judged(texts)
            ranking = reranker.rank_recalled(asked, passages, replace(recalled, verdicts={}))
        else:
            ranking = reranker.rank(asked, passages, examples=shown, log=False)
        if ranking.answerable is None and self._min_answerable is not None:
            raise ConfigError(f"`min_answerable` needs a model calibrated for it, got {listed([reranker.name])}")
        order = [written[hit.index] for hit in ranking]
        fused = self._fused(order, [hit.score for hit in ranking], found)
        lost = {written[cut.index]: cut.num_lost for cut in ranking.truncated}
        hits = [
            StageHit(
                index,
                score,
                hit.score,
                found[index],
                lost.get(index, 0),
                self._without_prefix(hit.chunk),
                logit=hit.logit,
            )
            for index, score, hit in zip(order, fused, ranking, strict=True)
        ]
        if self._fusion is not None:
            hits.sort(key=lambda hit: (-(hit.score or 0.0), hit.index))
        hits += blank
        cut = ranking.truncated_query
        return StageRanking(
            judged_first(hits, judged),
            query_tokens_lost=0 if cut is None else cut.num_lost,
            repaired_query=ranking.repaired_query,
            answerable=1.0 if ranking.answerable is not None and "relevant" in judged else ranking.answerable,
            warnings=ranking.warnings,
        )

    def _without_prefix(self, chunk: Extent | None) -> Extent | None:
        before = len(self._passage_prefix)
        return None if chunk is None else (max(0, chunk[0] - before), max(0, chunk[1] - before))

    def _logged(
        self,
        query: str,
        texts: Sequence[str],
        ids: Sequence[str | None],
        ranking: StageRanking,
        where: Where,
    ) -> StageRanking:
        log = None if self._reranker is None else self._reranker.ranking_log
        if log is None or not ranking.hits:
            return ranking
        return log.noted_of_stage(query, texts, ids, ranking, where)

    def _warn(self, error: DataError) -> None:
        """Report once that a store or cache cannot be opened: nothing else would, as each query keeps its order."""
        if self._has_warned:
            return
        self._has_warned = True
        logger.warning("nothing is reranked: %s", error)
        warnings.warn(f"nothing is reranked: {error}", RuntimeWarning, stacklevel=3)

    def _fused(self, order: Sequence[int], scores: list[float], found: Sequence[float | None]) -> list[float]:
        """Sort value of each passage in `order`, with its score."""
        if self._fusion is None:
            return scores
        if self._fusion == "reciprocal_rank":
            by_place = reciprocal_rank(order, weight=self._weight)
            return [by_place[index] for index in order]
        theirs = [found[index] or 0.0 for index in order]  # none is None: checked in `run`
        return weighted(scores, theirs, self._weight)


def _report(hit: StageHit, ranking: StageRanking) -> dict[str, int]:
    """Notes on what was cut, chosen and repaired."""
    start, end = hit.chunk or (None, None)
    report = {
        "rerank_tokens_lost": hit.tokens_lost or None,
        "rerank_query_tokens_lost": ranking.query_tokens_lost or None,
        "rerank_chunk_start": start,
        "rerank_chunk_end": end,
        "rerank_repaired": hit.is_repaired or None,
        "rerank_query_repaired": ranking.repaired_query or None,
    }
    return {name: value for name, value in report.items() if value is not None}
