"""Reranking of passages for a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.base import LoadedModel
from gliclass_rerank.calls.background import in_background
from gliclass_rerank.cascade import load_ranker
from gliclass_rerank.checks import checked_count, checked_list, checked_text, checked_texts, is_a, of_settings
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.examples.retrieval import Examples
from gliclass_rerank.pipeline import Calibration, Scored, probabilities
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.runtime.passage_cache import CacheMeta, StatesDtype
from gliclass_rerank.settings import RerankerSettings, taking
from gliclass_rerank.types import Example, Hit, Ranking, Truncation

# Three examples with four passages leave each about 35 of BERT's 512 tokens, a sentence or two.
_EXAMPLE_PASSAGES: Final = 4


class Reranker(LoadedModel):
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
        DataError: The passage cache is missing or damaged, or the store cannot be opened, for example because another
            process has it open.
    """

    @taking(RerankerSettings)
    def __init__(self, settings: RerankerSettings) -> None:
        most = settings.max_example_passages
        with of_settings():
            self._max_example_passages = checked_count(
                "max_example_passages", _EXAMPLE_PASSAGES if most is None else most
            )
        super().__init__(settings, load_ranker(settings))

    def rank(
        self,
        query: str,
        passages: Sequence[str],
        *,
        top_k: int | None = None,
        examples: Examples | None = None,
    ) -> Ranking:
        """Rank passages, best first.

        Equal passages are scored once and reported at each index.

        Args:
            query: Query; not blank.
            passages: Passages in any order; may be empty, and each may be blank.
            top_k: Maximum number of hits; None for all.
            examples: Judged examples: earlier queries with relevant (`true_labels`) and irrelevant (`false_labels`)
                passages. None queries the store, if any; an empty list shows none.

        Returns:
            Hits by descending logit, ties by index.

        Raises:
            InputError: An argument has the wrong type, the query is blank, or `top_k` is below 1.
            WindowOverflowError: The query leaves no room for a passage.
            BackendError: The forward pass or the store failed.
        """
        return self.rank_many([checked_text("`query`", query)], [passages], top_k=top_k, examples=examples)[0]

    def rank_many(
        self,
        queries: Sequence[str],
        passages_per_query: Sequence[Sequence[str]],
        top_k: int | None = None,
        examples: Examples | None = None,
    ) -> list[Ranking]:
        """Rank several queries together, sharing forward passes and one search in the store.

        Args:
            queries: Queries; not blank.
            passages_per_query: One list of passages per query.
            top_k: Maximum number of hits per query; None for all.
            examples: Judged examples, shown with every query. None queries the store for each.

        Returns:
            One ranking per query.

        Raises:
            InputError: An argument is invalid, as for `rank`, or the lists differ in length.
        """
        limit = None if top_k is None else checked_count("top_k", top_k)
        texts = checked_texts("queries", queries)
        wanted = f"`passages_per_query` must hold one list for each of the {len(texts)} queries"
        lists = passages_per_query
        if type(lists) not in (list, tuple):
            if is_a(lists, str) or not is_a(lists, Sequence):
                raise InputError(f"{wanted}, got {shown(lists)}")
            lists = checked_list("passages_per_query", lists, "lists")
        if len(lists) != len(texts):
            raise InputError(f"{wanted}, got {len(lists)}")
        candidates, sources = [], []
        for query, passages in zip(texts, lists, strict=True):
            if not query.strip():
                raise InputError(f"`query` must not be blank, got {shown(query)}")
            # Equal passages are scored once: `source` maps each passage to its distinct one.
            positions: dict[str, int] = {}
            given = checked_texts("passages", passages)
            sources.append([positions.setdefault(passage, len(positions)) for passage in given])
            candidates.append(list(positions))
        examples_of: Sequence[tuple[Example, ...]] = [()] * len(texts)
        if examples is not None or self._retrieval.source is not None:
            examples_of = self._retrieval.shown(texts, examples, needed=[bool(some) for some in candidates])
        requests = [
            ScoringRequest(query, some, examples=found, max_example_labels=self._max_example_passages)
            for query, some, found in zip(texts, candidates, examples_of, strict=True)
        ]
        scored = self._pipeline.score(requests, truncate_side="candidates")
        return [
            _ranking(each, source, limit, request.examples, self._pipeline.calibration)
            for each, source, request in zip(scored, sources, requests, strict=True)
        ]

    async def arank(
        self,
        query: str,
        passages: Sequence[str],
        *,
        top_k: int | None = None,
        examples: Examples | None = None,
    ) -> Ranking:
        """Await `rank` in a worker thread, without blocking the event loop."""
        return await in_background(self.rank, query, passages, top_k=top_k, examples=examples)

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

    def feedback(
        self,
        query: str,
        relevant: Sequence[str] = (),
        irrelevant: Sequence[str] = (),
        *,
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> str:
        """Store judged passages of a query, to be shown with later rankings of similar queries.

        All judgements of a query, regardless of case and white space, form one example; the newest judgement of a
        passage
        wins. An `ExampleStore` with a path has them on disk when this returns.

        Args:
            query: Query; not blank.
            relevant: Relevant passages.
            irrelevant: Irrelevant passages.
            id: Id that keeps these judgements separate; reuse it with the same query to extend them.
            metadata: JSON values; they replace earlier ones under the same keys.

        Returns:
            Id of the example.

        Raises:
            ConfigError: There is no store, or it is not writable.
            InputError: An argument has the wrong type, the query is blank, there is no passage, a passage is both
                relevant and irrelevant, the id belongs to another query, or the store was opened with `read_only=True`.
            BackendError: The store failed.
        """
        query = checked_text("`query`", query)
        if not query.strip():
            raise InputError(f"`query` must not be blank, got {shown(query)}")
        good, bad = checked_texts("relevant", relevant), checked_texts("irrelevant", irrelevant)
        if not good and not bad:
            raise InputError(
                f"`relevant` or `irrelevant` must hold a passage, got {shown(relevant)} and {shown(irrelevant)}"
            )
        for passage in good:
            if passage in bad:
                raise InputError(f"a passage must be either relevant or irrelevant, got {shown(passage)} as both")
        return self._retrieval.learn(Example(query, good, bad), id=id, metadata=metadata)


def _ranking(
    scored: Scored,
    source: Sequence[int],
    top_k: int | None,
    examples: tuple[Example, ...],
    calibration: Calibration,
) -> Ranking:
    """Ranking of the caller's list; `source` maps each passage to its distinct one."""
    logits, plan = scored.logits, scored.plan
    order = sorted(range(len(source)), key=lambda index: (-logits[source[index]], index))[:top_k]
    scores = probabilities([logits[source[index]] for index in order], calibration.score)
    answerable = None
    if calibration.answerable is not None:
        (answerable,) = probabilities([max(logits)], calibration.answerable) if logits else (0.0,)
    cut = {truncation.index: truncation for truncation in plan.truncated}
    first_index = {position: index for index, position in reversed(list(enumerate(source)))}
    return Ranking(
        hits=tuple(
            Hit(index=index, score=score, logit=logits[source[index]])
            for index, score in zip(order, scores, strict=True)
        ),
        truncated=tuple(
            Truncation(index, cut[position].num_tokens, cut[position].num_lost)
            for index, position in enumerate(source)
            if position in cut
        ),
        windows=tuple(tuple(first_index[position] for position in members) for members in plan.members)
        if scored.sees_companions
        else (),
        truncated_examples=plan.truncated_examples,
        examples=examples,
        answerable=answerable,
    )
