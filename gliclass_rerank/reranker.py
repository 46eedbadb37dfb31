"""Ranking of passages against a query."""

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
from gliclass_rerank.pipeline import Scored, probabilities
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.runtime.passage_cache import CacheMeta, StatesDtype
from gliclass_rerank.settings import RerankerSettings, taking
from gliclass_rerank.types import Example, Hit, Ranking, Truncation

# Of a BERT's 512 positions three examples with so many passages leave each about 35 tokens, a sentence or two.
_EXAMPLE_PASSAGES: Final = 4


class Reranker(LoadedModel):
    """Ranks passages with a GLiClass checkpoint or a cascade of two.

    One instance holds one model, does not change after construction, but for what its store learns, and may be shared
    by any number of threads.

    Args:
        settings: The fields of `RerankerSettings`, by name; the first one, `model`, by position too: a local folder, a
            bundled model's name (`"minilm-l6-v1"` alone is quicker) or a hub name; None for the bundled
            `minilm-cascade-v1`.

    Raises:
        ConfigError: An unknown setting, a plan that the backbone or a checkpoint that the backend cannot run, a
            passage cache that another checkpoint made or that this one cannot have, or a store that another encoder
            filled.
        CheckpointError: The checkpoint cannot be loaded.
        MissingDependencyError: The backend is not installed.
        BackendError: The export cannot be kept or loaded.
        DataError: The passage cache is missing or broken, or the store cannot be opened, perhaps because another
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

        Equal passages are scored once and reported at each index. A blank passage is scored like any other: the model
        sees its marker alone.

        Args:
            query: What is searched for; not blank.
            passages: What is ranked, in any order; may be empty. Never changed.
            top_k: How many hits to return; None for all, more than there are is all.
            examples: Judged examples shown beside the query: earlier queries with relevant (`true_labels`) and
                irrelevant (`false_labels`) passages. None asks the store, if there is one; an empty list shows none.

        Returns:
            Hits by descending logit, ties by index.

        Raises:
            InputError: An argument of the wrong type, a blank query, or a `top_k` below 1.
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
        """Rank a list of passages for each query; windows of different queries share forward passes.

        Examples for all queries are found in one search.

        Args:
            queries: What is searched for.
            passages_per_query: One list of passages for each query.
            top_k: How many hits to return for each query; None for all.
            examples: Judged examples shown beside every query. None asks the store for each, as for `rank`.

        Returns:
            One ranking a query, in the order of `queries`.

        Raises:
            InputError: As for `rank`, or lists of different lengths.
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
            # Equal passages are scored once: `source` says which of the distinct ones each passage is.
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
        """`rank` in one of a few worker threads, so that the event loop is never blocked.

        Args:
            query: As for `rank`.
            passages: As for `rank`.
            top_k: As for `rank`.
            examples: As for `rank`.

        Returns:
            As for `rank`.
        """
        return await in_background(self.rank, query, passages, top_k=top_k, examples=examples)

    def precompute(
        self,
        passages: Iterable[str],
        folder: str | Path,
        *,
        dtype: StatesDtype = "float16",
        on_computed: Callable[[int], object] | None = None,
    ) -> CacheMeta:
        """Compute what passages do not owe to a query, once, for `Reranker(passage_cache=folder)`.

        Passages are cut as this reranker cuts them; where a reranker with another window cuts a passage elsewhere, it
        does not find it. The folder appears when all is written.

        Args:
            passages: Texts, blank ones too; equal ones are kept once. Read as they are needed.
            folder: Must not exist yet.
            dtype: `"float16"`, or `"int8"` with a scale for each token: half the size, and a little less exact.
            on_computed: Called with the number of passages done since the last call.

        Returns:
            What was written: distinct passages, tokens and the layer among it.

        Raises:
            ConfigError: A checkpoint or plan that cannot have a passage cache (the message says why), another `dtype`,
                or a reranker that does not run in float32.
            InputError: A passage is not a string.
            DataError: The folder exists, or there is no passage.
            BackendError: The forward pass failed, or gave numbers too large for float16.
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
        """Put judged passages of a query into the store; later rankings of similar queries are shown them.

        All judgements of a query, whatever its case and white space, become one example; the newer judgement of a
        passage wins. They are safe on the disk when this returns, if the store is an `ExampleStore` with a path.

        Args:
            query: What was searched for; not blank.
            relevant: Passages that answered it.
            irrelevant: Passages that did not.
            id: Keep these judgements apart under this name; given again with the same query, it joins them. Examples
                that were added to the store by other means have names of their own too.
            metadata: JSON values to keep with them; they replace earlier ones under the same keys.

        Returns:
            The example's id.

        Raises:
            ConfigError: There is no store, or it cannot be written to.
            InputError: An argument of the wrong type, a blank query, no passage, one that is both relevant and
                irrelevant, an id that belongs to another query, or a store that was opened with `read_only=True`.
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
    calibration: tuple[float, float] | None,
) -> Ranking:
    """Ranking of the caller's list, of which `source` has each passage's position among the distinct ones."""
    logits, plan = scored.logits, scored.plan
    order = sorted(range(len(source)), key=lambda index: (-logits[source[index]], index))[:top_k]
    scores = probabilities([logits[source[index]] for index in order], calibration)
    cut = {truncation.index: truncation for truncation in plan.truncated}
    first_index = {position: index for index, position in reversed(list(enumerate(source)))}
    return Ranking(
        hits=tuple(
            Hit(index=index, logit=logits[source[index]], score=score)
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
    )
