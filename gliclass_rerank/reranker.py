"""Ranks passages against a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from gliclass_rerank.calls.background import in_background
from gliclass_rerank.cascade import load_ranker
from gliclass_rerank.checks import checked_count, checked_list, checked_text, checked_texts, is_a, of_settings
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.examples.retrieval import Examples, Retrieval
from gliclass_rerank.examples.source import ExampleSource, plain_settings
from gliclass_rerank.loaded import Loaded
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.prompt.planner import Plan
from gliclass_rerank.runtime.choice import BackendName
from gliclass_rerank.runtime.passage_cache import CacheMeta, StatesDtype
from gliclass_rerank.types import Example, Hit, Ranking, Truncation

# Of a BERT's 512 positions three examples with so many passages leave each about 35 tokens, a sentence or two.
_EXAMPLE_PASSAGES: Final = 4


class Reranker(Loaded):
    """Ranks passages with a GLiClass checkpoint.

    One instance holds one model, does not change after construction, but for what its store learns, and may be shared
    by any number of threads.

    Args:
        model: A checkpoint or a cascade: a local folder, a bundled model's name (`"minilm-l6-v1"` alone is quicker) or
            a hub name; None for the bundled `minilm-cascade-v1`, which needs no network.
        device: A torch device; None takes cuda, else mps, else cpu.
        dtype: Precision of the backbone, `"float32"`, `"float16"` or `"bfloat16"`; None takes bfloat16 on cuda devices
            that have it, else float32. For other backends than torch see `backend`.
        plan: `"joint"` or `"shared_query"`; None takes what the checkpoint was trained with. Forcing the other one
            works and costs quality, because the weights never saw it (docs/decisions/0003-attention-plans.md).
        revision: Branch, tag or commit of a hub model.
        max_window_tokens: Longest sequence; None takes 1,024, or what the backbone's positions allow, and for passages
            what the checkpoint says (256 for the bundled model). Passages that do not fit are cut and reported, the
            query never is.
        window_tokens: Length to which the `joint` plan packs passages; None takes the cheapest for the backbone and
            the query's length.
        max_example_passages: How many judged passages of one example to show at most: its first ones, where `feedback`
            puts the newest. If the checkpoint reads irrelevant ones too and there are too many of both, they get half
            of the places. What was left out is reported with what was cut. None takes 4.
        max_example_tokens: Tokens of the examples of a ranking at most, markers included; the longest parts are cut
            first, and what was cut is reported. None leaves them all that the query does not need.
        batch_tokens: Tokens of one forward pass; None takes 2,048 on the CPU and 65,536 elsewhere.
        backend: What runs the transformer layers: `"torch"`, `"onnx"` or `"openvino"`; None takes torch. The last two
            run BERT, DeBERTa-v2/v3 and ModernBERT backbones on the CPU, in a `dtype` of `"float32"` or `"int8"`, with
            openvino also `"bfloat16"`, from an export that is made at the first use and kept beside the hub's cache.
            `"auto"` takes the quickest one that was measured to keep the order: where the processor has bfloat16,
            openvino in that, if it is installed and can run the checkpoint, or torch in that for a BERT; else torch;
            with a `dtype` the quickest one that has it. The attributes `backend` and `dtype` say which it is.
        threads: CPU threads of this instance's forward passes, however many callers there are: batches of rankings at
            the same time take turns. None takes torch's number, in each calling thread; the other backends take it
            for all callers, when they are loaded. See docs/decisions/0018-threads.md.
        passage_cache: Folder that `precompute` wrote: passages in it start at the layer it was made for, others are
            computed as ever. Needs the checkpoint it was made by and the plan `"shared_query"`.
        example_store: Where judged examples are found for each query: the path of an `ExampleStore`, made if it does
            not exist and filled by the default encoder, or any `ExampleSource`. In one process all rerankers and
            classifiers that name a path share the store.
        num_examples: How many examples to show at most.
        min_example_similarity: The least cosine of an example's query with the query, in [-1, 1].
        allow_same_text: Whether an example may have the very query that is ranked, whatever the case and white
            space. Its judgements give the answer away: right when they are to be repeated, wrong when measuring.

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

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        plan: AttentionPlan | None = None,
        revision: str | None = None,
        max_window_tokens: int | None = None,
        window_tokens: int | None = None,
        max_example_passages: int | None = None,
        max_example_tokens: int | None = None,
        batch_tokens: int | None = None,
        backend: BackendName | None = None,
        threads: int | None = None,
        passage_cache: str | Path | None = None,
        example_store: str | Path | ExampleSource | None = None,
        num_examples: int = 3,
        min_example_similarity: float = 0.5,
        allow_same_text: bool = False,
    ) -> None:
        with of_settings():
            self._max_example_passages = checked_count(
                "max_example_passages", _EXAMPLE_PASSAGES if max_example_passages is None else max_example_passages
            )
        self._retrieval = Retrieval(
            example_store,
            num_examples=num_examples,
            min_example_similarity=min_example_similarity,
            allow_equal=allow_same_text,
        )
        self._scorer = load_ranker(
            model,
            device=device,
            dtype=dtype,
            plan=plan,
            revision=revision,
            max_window_tokens=max_window_tokens,
            window_tokens=window_tokens,
            max_example_tokens=max_example_tokens,
            batch_tokens=batch_tokens,
            backend=backend,
            threads=threads,
            has_store=example_store is not None,
            passage_cache=passage_cache,
        )
        self._given: dict[str, Any] = {  # Any: settings of all types
            "model": model,
            "device": device,
            "dtype": dtype,
            "plan": plan,
            "revision": revision,
            "max_window_tokens": max_window_tokens,
            "window_tokens": window_tokens,
            "max_example_passages": max_example_passages,
            "max_example_tokens": max_example_tokens,
            "batch_tokens": batch_tokens,
            "backend": backend,
            "threads": threads,
            "passage_cache": passage_cache,
        }
        if example_store is not None:
            self._given |= {
                "example_store": example_store,
                "num_examples": self._retrieval.num_examples,
                "min_example_similarity": self._retrieval.min_example_similarity,
                "allow_same_text": self._retrieval.allow_equal,
            }

    def __reduce__(self) -> tuple[Callable[..., Reranker], tuple[type[Reranker], dict[str, Any]]]:
        # A pickle carries the recipe: weights are read where it is loaded, and no code travels.
        return _rebuilt, (type(self), self.settings)

    def __copy__(self) -> Reranker:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Reranker:
        return self  # it does not change, and a second copy of the weights would serve nobody

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that were given, as JSON values: `Reranker(**settings)` is its equal. A new dict each time.

        Those of examples are among them if there is a store.

        Raises:
            ConfigError: `example_store` is an object, not a path.
        """
        return plain_settings(self._given)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._scorer.device

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
        if is_a(passages_per_query, str) or not is_a(passages_per_query, Sequence):
            raise InputError(f"{wanted}, got {shown(passages_per_query)}")
        lists = checked_list("passages_per_query", passages_per_query, "lists")
        if len(lists) != len(texts):
            raise InputError(f"{wanted}, got {len(lists)}")
        candidates, sources = [], []
        for query, passages in zip(texts, lists, strict=True):
            _refuse_blank(query)
            unique, source = _deduplicate(checked_texts("passages", passages))
            candidates.append(unique)
            sources.append(source)
        # A query without passages is shown nothing, so nothing is searched for it.
        found = iter(
            self._retrieval.shown([text for text, some in zip(texts, candidates, strict=True) if some], examples)
        )
        asks = [
            self._scorer.ask(
                query,
                unique,
                examples=next(found) if unique else (),
                max_example_labels=self._max_example_passages,
            )
            for query, unique in zip(texts, candidates, strict=True)
        ]
        scored = self._scorer.score(asks, truncate_side="candidates")
        score = self._scorer.relevance
        return [
            replace(_ranking(logits, plan, source, limit, score), examples=ask.examples)
            for (logits, plan), source, ask in zip(scored, sources, asks, strict=True)
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
        return self._scorer.precompute(passages, folder, dtype=dtype, on_computed=on_computed)

    def examples_for(self, queries: Sequence[str]) -> list[tuple[Example, ...]]:
        """Find the examples that `rank` shows beside queries.

        Args:
            queries: What is searched for.

        Returns:
            For each query its examples, most similar first; none without a store.

        Raises:
            InputError: Not a list of strings.
            BackendError: The store failed.
        """
        return self._retrieval.shown(checked_texts("queries", queries))

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
        _refuse_blank(query)
        good, bad = checked_texts("relevant", relevant), checked_texts("irrelevant", irrelevant)
        if not good and not bad:
            raise InputError(
                f"`relevant` or `irrelevant` must hold a passage, got {shown(relevant)} and {shown(irrelevant)}"
            )
        for passage in good:
            if passage in bad:
                raise InputError(f"a passage must be either relevant or irrelevant, got {shown(passage)} as both")
        return self._retrieval.learn(Example(query, good, bad), id=id, metadata=metadata)


def _refuse_blank(query: str) -> None:
    if not query.strip():
        raise InputError(f"`query` must not be blank, got {shown(query)}")


def _rebuilt(kind: type[Reranker], settings: dict[str, Any]) -> Reranker:
    return kind(**settings)


def _deduplicate(passages: Sequence[str]) -> tuple[list[str], list[int]]:
    """Distinct passages in first-seen order, and for each passage the position of its text among them."""
    positions: dict[str, int] = {}
    source = [positions.setdefault(passage, len(positions)) for passage in passages]
    return list(positions), source


def _ranking(
    logits: Sequence[float],
    plan: Plan,
    source: Sequence[int],
    top_k: int | None,
    score: Callable[[float], float],
) -> Ranking:
    order = sorted(range(len(source)), key=lambda index: (-logits[source[index]], index))
    cut = {truncation.index: truncation for truncation in plan.truncated}
    truncated = [
        Truncation(index, cut[position].num_tokens, cut[position].num_lost)
        for index, position in enumerate(source)
        if position in cut
    ]
    first_index = {position: index for index, position in reversed(list(enumerate(source)))}
    windows = tuple(tuple(first_index[position] for position in members) for members in plan.members)
    return Ranking(
        hits=tuple(
            Hit(index=index, logit=logit, score=score(logit))
            for index, logit in ((index, logits[source[index]]) for index in order[:top_k])
        ),
        truncated=tuple(truncated),
        windows=windows if plan.sees_companions else (),
        truncated_examples=plan.truncated_examples,
    )
