"""Reranking of passages for a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from gliclass_rerank.base import RankerBase
from gliclass_rerank.calls.background import in_background
from gliclass_rerank.cascade import load_ranker
from gliclass_rerank.checks import (
    Texts,
    checked_count,
    checked_list,
    checked_share,
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
from gliclass_rerank.settings import RerankerSettings, taking
from gliclass_rerank.types import Hit, Passage, Ranking, Span, Truncation

# Three examples with four passages leave each about 35 of BERT's 512 tokens, a sentence or two.
_EXAMPLE_PASSAGES: Final = 4
_NOTHING: Final = Recalled()


class Reranker(RankerBase):
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
        diversity: float | None = None,
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
            diversity: Share of its score that a passage loses by repeating those before it, in [0, 1]: hits are then in
                the order of choice, and `Hit.repeats` reports near-duplicates. None for the order of the scores.
            log: Add the ranking to the log, if there is one.

        Returns:
            Passages that the store knows as relevant to this very query, others, those known as irrelevant; each by
            descending logit, ties by index, or with `diversity` in the order of choice.

        Raises:
            InputError: An argument has the wrong type, the query is blank, `top_k` is below 1, or `diversity` is not in
                [0, 1].
            WindowOverflowError: The query leaves no room for a passage; with `long_query="error"`.
            BackendError: The forward pass or the store failed.
        """
        if type(query) is not str:
            query = own_text("`query`", query)
        return self._rank(
            repaired_texts("queries", [query]),
            [passages],
            top_k,
            examples,
            where,
            spans=spans,
            diversity=diversity,
            log=log,
        )[0]

    def rank_many(
        self,
        queries: Sequence[str],
        passages_per_query: Sequence[Sequence[Passage]],
        top_k: int | None = None,
        examples: Examples | None = None,
        *,
        where: Where = None,
        spans: bool = False,
        diversity: float | None = None,
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
            diversity: As for `rank`.
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
        return self._rank(asked, lists, top_k, examples, where, spans=spans, diversity=diversity, log=log)

    def _rank(
        self,
        asked: Texts,
        lists: Sequence[Sequence[Passage]],
        top_k: int | None,
        examples: Examples | None,
        where: Where,
        *,
        spans: bool,
        diversity: float | None,
        log: bool,
        recalled: Recalled | None = None,
    ) -> list[Ranking]:
        limit = None if top_k is None else checked_count("top_k", top_k)
        weight = None if diversity is None else checked_share("diversity", diversity)
        for query in asked.texts:
            if not query.strip():
                raise InputError(f"`query` must not be blank, got {shown(query)}")
        given = [repaired_texts("passages", passages) for passages in lists]
        candidates = [list(dict.fromkeys(each.texts)) for each in given]  # equal passages are scored once
        found = [recalled or _NOTHING] * len(lists)
        if recalled is None and (examples is not None or self._retrieval.source is not None):
            needed = [bool(some) for some in candidates]
            names = [each.texts for each in given]
            found = self._retrieval.recall(asked.texts, examples, needed=needed, passages=names, where=where)
        requests = [
            ScoringRequest(query, some, examples=each.examples, max_example_labels=self._max_example_passages)
            for query, some, each in zip(asked.texts, candidates, found, strict=True)
        ]
        scored = self._pipeline.score(requests, truncate_side="candidates")
        rankings = [
            _ranking(*each, limit if weight is None else None, self._pipeline.calibration)
            for each in zip(scored, requests, given, found, strict=True)
        ]
        if weight is not None:
            from gliclass_rerank.diversity.selection import diversified  # costs nothing without

            rankings = [diversified(self._pipeline, each, weight, limit) for each in rankings]
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

    def rank_recalled(self, query: str, passages: Sequence[str], recalled: Recalled) -> Ranking:
        """Rank passages with what `recall` found under other texts, such as without prefixes; not logged."""
        asked = repaired_texts("queries", [own_text("`query`", query)])
        return self._rank(
            asked, [passages], None, None, None, spans=False, diversity=None, log=False, recalled=recalled
        )[0]

    def rank_iter(
        self,
        pairs: Iterable[tuple[str, Sequence[Passage]]],
        *,
        top_k: int | None = None,
        examples: Examples | None = None,
        where: Where = None,
        spans: bool = False,
        diversity: float | None = None,
        log: bool = True,
    ) -> Iterator[Ranking]:
        """Rank any number of queries, a few forward passes at a time, each read when its turn comes.

        Args:
            pairs: Queries, each with its passages.
            top_k: Maximum number of hits per query; None for all.
            examples: Judged examples, shown with every query. None queries the store for each.
            where: As for `rank`, for all queries.
            spans: As for `rank`.
            diversity: As for `rank`.
            log: As for `rank`.

        Yields:
            One ranking per query, in order.

        Raises:
            InputError: A pair or an argument is invalid, as for `rank`; the rankings of earlier passes are out by then.
        """
        for queries, lists in query_batches(pairs, self.runtime.batch_tokens):
            yield from self.rank_many(
                queries, lists, top_k, examples, where=where, spans=spans, diversity=diversity, log=log
            )

    async def arank(
        self,
        query: str,
        passages: Sequence[Passage],
        *,
        top_k: int | None = None,
        examples: Examples | None = None,
        where: Where = None,
        spans: bool = False,
        diversity: float | None = None,
        log: bool = True,
    ) -> Ranking:
        """Await `rank` in a worker thread, without blocking the event loop."""
        return await in_background(
            self.rank,
            query,
            passages,
            top_k=top_k,
            examples=examples,
            where=where,
            spans=spans,
            diversity=diversity,
            log=log,
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
        diversity: float | None = None,
        log: bool = True,
    ) -> list[Ranking]:
        """Await `rank_many` in a worker thread, without blocking the event loop."""
        return await in_background(
            self.rank_many,
            queries,
            passages_per_query,
            top_k,
            examples,
            where=where,
            spans=spans,
            diversity=diversity,
            log=log,
        )

    def spans(
        self, query: str, passages: Sequence[Passage], *, examples: Examples | None = None, where: Where = None
    ) -> list[tuple[Span, ...]]:
        """Score the sentences of passages without ranking them, as `rank(..., spans=True)` does.

        Args:
            query: As for `rank`.
            passages: As for `rank`.
            examples: As for `rank`.
            where: As for `rank`.

        Returns:
            For each passage its sentences by descending score, in the passages' order.

        Raises:
            InputError: An argument has the wrong type, or the query is blank.
            WindowOverflowError: The query leaves no room for a sentence; with `long_query="error"`.
            BackendError: The forward pass or the store failed.
        """
        from gliclass_rerank.spans.scoring import as_given, passage_spans

        asked = repaired_texts("queries", [own_text("`query`", query)])
        if not asked.texts[0].strip():
            raise InputError(f"`query` must not be blank, got {shown(query)}")
        given = repaired_texts("passages", passages)
        (recalled,) = self._retrieval.recall(
            asked.texts, examples, needed=[bool(given.texts)], passages=[given.texts], where=where
        )
        most = self._max_example_passages
        request = ScoringRequest(asked.texts[0], given.texts, examples=recalled.examples, max_example_labels=most)
        (found,) = passage_spans(self._pipeline, [request])
        return [as_given(each, given.originals.get(index)) for index, each in enumerate(found)]


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
    if recalled.log_odds:
        slope = 1.0 if calibration.score is None else calibration.score[0]  # log-odds of a logit
        logits = [logit + more / slope for logit, more in zip(logits, recalled.log_odds, strict=True)]
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
            carried_over=(recalled.log_odds[index] or None) if recalled.log_odds else None,
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
        examples=(*recalled.examples, *recalled.carried),
        truncated_query=plan.text_truncation,
        repaired=passages.repaired,
        num_tokens=plan.num_tokens,
        answerable=answerable,
    )
