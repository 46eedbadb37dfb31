"""Reranking of passages for a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gliclass_rerank.base import TaughtModel
from gliclass_rerank.calls.background import in_background
from gliclass_rerank.cascade import load_ranker
from gliclass_rerank.checks import (
    Texts,
    checked_count,
    checked_list,
    is_a,
    of_settings,
    own_text,
    repaired_texts,
)
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.examples.filters import Where
from gliclass_rerank.examples.judgements import Recalled, judged_first
from gliclass_rerank.examples.retrieval import Examples
from gliclass_rerank.model.probability import Calibration, probabilities
from gliclass_rerank.pipeline import Scored
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.query_batches import query_batches
from gliclass_rerank.runtime.passage_cache import CacheMeta, StatesDtype
from gliclass_rerank.settings import RerankerSettings, taking
from gliclass_rerank.types import Hit, Passage, Ranking, Truncation

# Three examples with four passages leave each about 35 of BERT's 512 tokens, a sentence or two.
_EXAMPLE_PASSAGES: Final = 4
_NOTHING: Final = Recalled()


class Reranker(TaughtModel):
    """Reranker over a GLiClass checkpoint or a cascade of two; thread-safe, and immutable except for its store.

    Args:
        settings: Fields of `RerankerSettings` by name; the first one, `model`, also by position: a local folder, a
            bundled model (`"minilm-l6-v1"` is the fastest) or a hub name; None for the bundled `minilm-cascade-v1`.

    Raises:
        ConfigError: An unknown setting, an unsupported plan or backend, a passage cache of another checkpoint, or a
            store filled by another encoder.
        CheckpointError: The checkpoint cannot be loaded.
        MissingDependencyError: The backend is not installed.
        BackendError: The export cannot be stored or loaded.
        DataError: The passage cache, the store or the log is missing, damaged or of another kind.
    """

    @taking(RerankerSettings)
    def __init__(self, settings: RerankerSettings) -> None:
        most = settings.max_example_passages
        with of_settings():
            self._max_example_passages = checked_count(
                "max_example_passages", _EXAMPLE_PASSAGES if most is None else most
            )
        super().__init__(settings, load_ranker(settings))
        if settings.log is not None:
            from gliclass_rerank.feedback.opened import ranking_log  # costs nothing without a log

            self.ranking_log = ranking_log(settings, self.name)

    def rank(
        self,
        query: str,
        passages: Sequence[Passage],
        *,
        top_k: int | None = None,
        examples: Examples | None = None,
        where: Where = None,
        spans: bool = False,
        log: bool = True,
    ) -> Ranking:
        """Rank passages, best first.

        Equal passages are scored once and reported at each index. Invalid Unicode is replaced by U+FFFD and reported.

        Args:
            query: Query; not blank.
            passages: Passages in any order: strings, or documents with `text`, and perhaps `id` and `metadata`, which
                the hits return. May be empty, and each may be blank.
            top_k: Maximum number of hits; None for all.
            examples: Judged examples: earlier queries with relevant (`true_labels`) and irrelevant (`false_labels`)
                passages. None queries the store, if any; an empty list shows none.
            where: Metadata values that the store's examples must have, or a predicate on the metadata; None for all.
            spans: Score the sentences of each hit too, in one more pass, as `Hit.spans`.
            log: Add the ranking to the log, if there is one.

        Returns:
            Passages that the store knows as relevant to this very query, others, those known as irrelevant; each by
            descending logit, ties by index.

        Raises:
            InputError: An argument has the wrong type, the query is blank, or `top_k` is below 1.
            WindowOverflowError: The query leaves no room for a passage; with `long_query="error"`.
            BackendError: The forward pass or the store failed.
        """
        if type(query) is not str:
            query = own_text("`query`", query)
        return self._rank(repaired_texts("queries", [query]), [passages], top_k, examples, where, spans=spans, log=log)[
            0
        ]

    def rank_many(
        self,
        queries: Sequence[str],
        passages_per_query: Sequence[Sequence[Passage]],
        top_k: int | None = None,
        examples: Examples | None = None,
        *,
        where: Where = None,
        spans: bool = False,
        log: bool = True,
    ) -> list[Ranking]:
        """Rank several queries together, sharing forward passes and one search in the store.

        Args:
            queries: Queries; not blank.
            passages_per_query: One list of passages per query, as for `rank`.
            top_k: Maximum number of hits per query; None for all.
            examples: Judged examples, shown with every query. None queries the store for each.
            where: As for `rank`, for all queries.
            spans: As for `rank`.
            log: As for `rank`.

        Returns:
            One ranking per query.

        Raises:
            InputError: An argument is invalid, as for `rank`, or the lists differ in length.
        """
        asked = repaired_texts("queries", queries)
        wanted = f"`passages_per_query` must hold one list for each of the {len(asked.texts)} queries"
        lists = passages_per_query
        if type(lists) not in (list, tuple):
            if is_a(lists, str) or not is_a(lists, Sequence):
                raise InputError(f"{wanted}, got {shown(lists)}")
            lists = checked_list("passages_per_query", lists, "lists")
        if len(lists) != len(asked.texts):
            raise InputError(f"{wanted}, got {len(lists)}")
        return self._rank(asked, lists, top_k, examples, where, spans=spans, log=log)

    def _rank(
        self,
        asked: Texts,
        lists: Sequence[Sequence[Passage]],
        top_k: int | None,
        examples: Examples | None,
        where: Where,
        *,
        spans: bool,
        log: bool,
    ) -> list[Ranking]:
        limit = None if top_k is None else checked_count("top_k", top_k)
        for query in asked.texts:
            if not query.strip():
                raise InputError(f"`query` must not be blank, got {shown(query)}")
        given = [repaired_texts("passages", passages) for passages in lists]
        candidates = [list(dict.fromkeys(each.texts)) for each in given]  # equal passages are scored once
        recalled = [_NOTHING] * len(lists)
        if examples is not None or self._retrieval.source is not None:
            needed = [bool(some) for some in candidates]
            recalled = self._retrieval.recall(asked.texts, examples, needed=needed, where=where)
        requests = [
            ScoringRequest(query, some, examples=found.examples, max_example_labels=self._max_example_passages)
            for query, some, found in zip(asked.texts, candidates, recalled, strict=True)
        ]
        scored = self._pipeline.score(requests, truncate_side="candidates")
        rankings = [
            _ranking(*each, limit, self._pipeline.calibration)
            for each in zip(scored, requests, given, recalled, strict=True)
        ]
        if spans:
            from gliclass_rerank.spans.scoring import with_spans  # costs nothing without

            rankings = with_spans(self._pipeline, requests, rankings, [texts.originals for texts in given])
        for number in asked.repaired:
            rankings[number] = replace(rankings[number], repaired_query=True)
        coverage = self._pipeline.coverage
        for number, request in enumerate(requests):
            if not all(map(coverage.is_plain, (request.text, *request.candidates))):
                unknown, warnings = coverage.report(request.text, given[number].texts)
                rankings[number] = replace(rankings[number], unknown=unknown, warnings=warnings)
        if self.ranking_log is None or not log:
            return rankings
        return self.ranking_log.noted(asked.texts, rankings, where)

    def rank_iter(
        self,
        pairs: Iterable[tuple[str, Sequence[Passage]]],
        *,
        top_k: int | None = None,
        examples: Examples | None = None,
        where: Where = None,
        spans: bool = False,
        log: bool = True,
    ) -> Iterator[Ranking]:
        """Rank any number of queries, a few forward passes at a time, each read when its turn comes.

        Args:
            pairs: Queries, each with its passages.
            top_k: Maximum number of hits per query; None for all.
            examples: Judged examples, shown with every query. None queries the store for each.
            where: As for `rank`, for all queries.
            spans: As for `rank`.
            log: As for `rank`.

        Yields:
            One ranking per query, in order.

        Raises:
            InputError: A pair or an argument is invalid, as for `rank`; the rankings of earlier passes are out by then.
        """
        for queries, lists in query_batches(pairs, self.runtime.batch_tokens):
            yield from self.rank_many(queries, lists, top_k, examples, where=where, spans=spans, log=log)

    async def arank(
        self,
        query: str,
        passages: Sequence[Passage],
        *,
        top_k: int | None = None,
        examples: Examples | None = None,
        where: Where = None,
        spans: bool = False,
        log: bool = True,
    ) -> Ranking:
        """Await `rank` in a worker thread, without blocking the event loop."""
        return await in_background(
            self.rank, query, passages, top_k=top_k, examples=examples, where=where, spans=spans, log=log
        )

    async def arank_many(
        self,
        queries: Sequence[str],
        passages_per_query: Sequence[Sequence[Passage]],
        top_k: int | None = None,
        examples: Examples | None = None,
        *,
        where: Where = None,
        spans: bool = False,
        log: bool = True,
    ) -> list[Ranking]:
        """Await `rank_many` in a worker thread, without blocking the event loop."""
        return await in_background(
            self.rank_many, queries, passages_per_query, top_k, examples, where=where, spans=spans, log=log
        )

    def precompute(
        self,
        passages: Iterable[str],
        folder: str | Path,
        *,
        dtype: StatesDtype = "float16",
        on_computed: Callable[[int], object] | None = None,
    ) -> CacheMeta:
        """Precompute query-independent passage states for `Reranker(passage_cache=folder)`.

        Passages are truncated as by this reranker; a reranker with another window misses those it truncates
        differently.

        Args:
            passages: Texts, read lazily; duplicates are stored once.
            folder: New folder, which appears when complete.
            dtype: `"float16"`, or `"int8"` with a scale per token: half the size, slightly less exact.
            on_computed: Callback with the number of passages done since the last call.

        Returns:
            Metadata of the cache.

        Raises:
            ConfigError: The checkpoint or plan cannot have a passage cache, the `dtype` is unknown, or the reranker
                does not run in float32.
            InputError: A passage is not a string.
            DataError: The folder exists, or there is no passage.
            BackendError: The forward pass failed, or its states overflow float16.
        """
        if is_a(passages, (str, bytes)) or not is_a(passages, Iterable):
            raise InputError(f"`passages` must hold strings, got {shown(passages)}")
        return self._pipeline.precompute(passages, folder, dtype=dtype, on_computed=on_computed)


def _ranking(
    scored: Scored,
    request: ScoringRequest,
    passages: Texts,
    recalled: Recalled,
    top_k: int | None,
    calibration: Calibration,
) -> Ranking:
    """Ranking of the caller's list, of which a request has each distinct passage once."""
    plan, answerable = scored.plan, None
    position = {text: position for position, text in enumerate(request.candidates)}
    source = [position[text] for text in passages.texts]
    logits = [scored.logits[position] for position in source]
    order = sorted(range(len(source)), key=lambda index: (-logits[index], index))
    if calibration.answerable is not None:
        (answerable,) = probabilities([logits[order[0]]], calibration.answerable) if order else (0.0,)
    if not recalled.verdicts:
        order = order[:top_k]
    scores = probabilities([logits[index] for index in order], calibration.score)
    cut = {truncation.index: truncation for truncation in plan.truncated}
    first_index = {position: index for index, position in reversed(list(enumerate(source)))}
    hits = tuple(
        Hit(
            index,
            score,
            logits[index],
            passages.texts[index],
            *passages.documents.get(index, (None, None)),
            chunk=scored.spans.get(source[index]),
        )
        for index, score in zip(order, scores, strict=True)
    )
    if recalled.verdicts:
        hits = judged_first(hits, recalled.judged(passages.texts))[:top_k]
        if answerable is not None and hits and hits[0].judged == "relevant":
            answerable = 1.0
    return Ranking(
        hits=hits,
        truncated=tuple(
            Truncation(index, cut[position].num_tokens, cut[position].num_lost)
            for index, position in enumerate(source)
            if position in cut
        ),
        windows=tuple(tuple(first_index[position] for position in members) for members in plan.members)
        if scored.sees_companions
        else (),
        truncated_examples=plan.truncated_examples,
        examples=recalled.examples,
        truncated_query=plan.text_truncation,
        repaired=passages.repaired,
        num_tokens=plan.num_tokens,
        answerable=answerable,
    )
