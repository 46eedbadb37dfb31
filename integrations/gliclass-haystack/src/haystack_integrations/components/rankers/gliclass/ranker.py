"""The component; what it does with documents is in `documents`, everything else in `gliclass_rerank.RerankStage`.

Saved pipelines name this module and the class in it (`type:`), so neither can be renamed or moved.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import ComponentDevice
from haystack_integrations.components.rankers.gliclass.documents import deduplicated, reranked, shown_text

from gliclass_rerank import ConfigError, Example, RerankerSettings, RerankStage
from gliclass_rerank.adapters import as_text, owned_reranker, plain_reranker, shown
from gliclass_rerank.examples import ExampleSource, plain_store

if TYPE_CHECKING:
    from gliclass_rerank import Reranker  # imports torch

# The constructor's arguments, in its order; `to_dict` writes these and no others.
_SETTINGS: Final = (
    *(field.name for field in fields(RerankerSettings)),
    "reranker",
    "top_k",
    "score_threshold",
    "min_answerable",
    "query_prefix",
    "passage_prefix",
    "meta_fields_to_embed",
    "embedding_separator",
    "fusion",
    "fusion_weight",
    "examples",
    "on_error",
    "keep_retrieval_score",
    "report_truncation",
)


@component
class GLiClassRanker:
    """Ranks documents by their relevance to a query with GLiClass.

    The model is loaded once, in `warm_up` or at the first `run`, and an instance may be shared by any number of
    threads; its settings, kept as attributes of the same names, do not change. Documents with the same id are ranked
    once, the one with the best score, as Haystack's own rankers do.

    ```python
    from haystack import Document
    from haystack_integrations.components.rankers.gliclass import GLiClassRanker

    documents = [Document(content="Bears sleep through the winter."), Document(content="Leaves turn light into sugar.")]
    print(GLiClassRanker().run(query="how do plants feed themselves?", documents=documents)["documents"][0].content)
    ```

    Args:
        model: A local folder or a hub name; None for the bundled model.
        device: A single device; None picks one when the model is loaded, and is saved as None.
        dtype: Precision of the backbone; None picks one.
        plan: Attention plan; None for the checkpoint's.
        revision: Branch, tag or commit of a hub model.
        max_window_tokens: Longest sequence; None for the checkpoint's. Passages that do not fit are cut.
        max_example_tokens: Tokens of a request's examples at most; None for all that the query leaves.
        batch_tokens: Tokens of one forward pass; None for the device's.
        backend: Runs the transformer layers: `"torch"`, `"onnx"`, `"openvino"`; None or `"auto"` takes the quickest one
            installed that keeps the order.
        threads: CPU threads of the forward passes; None for torch's number.
        example_store: Where judged examples are found for each query: the path of an `ExampleStore`, or a source such
            as `HaystackExampleSource`. A path is saved; with a source, saving is refused.
        num_examples: How many examples to show at most.
        min_example_similarity: The least cosine of an example's text with the query, in [-1, 1].
        allow_same_text: Whether judgements of the query's very text count: known relevant documents first, irrelevant
            ones last, with `rerank_judged` in the metadata. False when measuring.
        window_tokens: Length to which the `joint` plan packs passages; None for the cheapest.
        long_query: `"cut"` cuts the middle of a query that does not fit; `"error"` refuses it.
        long_passages: `"best_chunk"` scores passages that do not fit by their best chunk, `"cut"` cuts their end.
        max_example_passages: Judged passages shown of one example at most; None for 4.
        passage_cache: Folder that `gliclass_rerank.Reranker.precompute` wrote; None for none.
        log: Path of a feedback log of what is returned; the metadata then have `ranking_id` and `ranking_index`, which
            `gliclass_rerank.feedback.FeedbackLog` takes with clicks and grades. None for none.
        log_texts: Whether the log keeps queries and texts.
        log_days: Days after which entries of the log are forgotten; None to keep them.
        reranker: A `gliclass_rerank.Reranker` to use, or its settings, in place of the arguments above. It is
            saved, and kept as an attribute, as its settings.
        top_k: How many documents to return; None for all. (Haystack's own rankers return 10.)
        score_threshold: Keep only documents whose reranker's score is at least this, in [0, 1]; applied before `top_k`
            and regardless of fusion. None keeps all.
        min_answerable: Return nothing where the probability that any document answers the query is below this, in
            [0, 1]. None always returns what was found.
        query_prefix: Put before each query.
        passage_prefix: Put before each text that is not blank, metadata included.
        meta_fields_to_embed: Metadata fields whose values are put before the content; what is missing or None is
            skipped. None for no fields.
        embedding_separator: Put between the values and the content.
        fusion: Combine with the retriever: `"reciprocal_rank"` of both orders, or `"weighted"` mean of both scores.
            None orders by the reranker alone.
        fusion_weight: Share of the reranker in the fused score, in [0, 1].
        examples: Judged examples shown beside every query, in place of the store's, `gliclass_rerank.Example` or
            mappings; kept as dicts.
        on_error: `"keep_order"` returns the documents in the order and with the scores they came with, and the reason
            in their metadata, when model or store cannot be loaded or fail, or when the query does not fit; `"raise"`
            raises.
            Wrong arguments are raised either way.
        keep_retrieval_score: Whether the metadata gets the score that a document came with.
        report_truncation: Whether the metadata say what was cut, as `rerank_tokens_lost` and
            `rerank_query_tokens_lost`, which characters of a long text were its best chunk, as `rerank_chunk_start` and
            `rerank_chunk_end`, and whether invalid Unicode was replaced, as `rerank_repaired`.

    Raises:
        ConfigError: An unknown or inconsistent setting; a `ValueError`.
    """

    def __init__(
        self,
        *,
        model: str | PurePath | None = None,
        device: ComponentDevice | None = None,
        dtype: str | None = None,
        plan: str | None = None,
        revision: str | None = None,
        max_window_tokens: int | None = None,
        max_example_tokens: int | None = None,
        batch_tokens: int | None = None,
        backend: str | None = None,
        threads: int | None = None,
        example_store: str | PurePath | ExampleSource | None = None,
        num_examples: int = 3,
        min_example_similarity: float = 0.5,
        allow_same_text: bool = True,
        window_tokens: int | None = None,
        long_query: Literal["cut", "error"] = "cut",
        long_passages: Literal["cut", "best_chunk"] = "best_chunk",
        max_example_passages: int | None = None,
        passage_cache: str | PurePath | None = None,
        log: str | PurePath | None = None,
        log_texts: bool = True,
        log_days: int | None = None,
        reranker: Reranker | Mapping[str, Any] | None = None,  # Any: the settings' values
        top_k: int | None = None,
        score_threshold: float | None = None,
        min_answerable: float | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        meta_fields_to_embed: Sequence[str] | None = None,
        embedding_separator: str = "\n",
        fusion: Literal["reciprocal_rank", "weighted"] | None = None,
        fusion_weight: float = 0.5,
        examples: Sequence[Example | Mapping[str, Any]] | None = None,  # Any: upstream's JSON-like examples
        on_error: Literal["raise", "keep_order"] = "raise",
        keep_retrieval_score: bool = False,
        report_truncation: bool = False,
    ) -> None:
        names = _field_names(meta_fields_to_embed)
        if not isinstance(embedding_separator, str):
            raise ConfigError(f"`embedding_separator` must be a string, got {shown(embedding_separator)}")
        # Loads nothing; checks every other setting. First, because attributes are pickled in this order and the stage
        # is what says why an example store cannot be.
        reranker = owned_reranker(reranker)
        self._stage = RerankStage(
            as_text(model),
            device=_torch_name(device),
            dtype=dtype,
            plan=plan,
            revision=revision,
            max_window_tokens=max_window_tokens,
            max_example_tokens=max_example_tokens,
            batch_tokens=batch_tokens,
            backend=backend,
            threads=threads,
            example_store=as_text(example_store),
            num_examples=num_examples,
            min_example_similarity=min_example_similarity,
            allow_same_text=allow_same_text,
            window_tokens=window_tokens,
            long_query=long_query,
            long_passages=long_passages,
            max_example_passages=max_example_passages,
            passage_cache=as_text(passage_cache),
            log=as_text(log),
            log_texts=log_texts,
            log_days=log_days,
            reranker=reranker,
            top_k=top_k,
            score_threshold=score_threshold,
            min_answerable=min_answerable,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
            fusion=fusion,
            fusion_weight=fusion_weight,
            examples=examples,
            on_error=on_error,
            keep_retrieval_score=keep_retrieval_score,
            report_truncation=report_truncation,
        )
        self.model = as_text(model)
        self.device = device
        self.dtype = dtype
        self.plan = plan
        self.revision = revision
        self.max_window_tokens = max_window_tokens
        self.max_example_tokens = max_example_tokens
        self.batch_tokens = batch_tokens
        self.backend = backend
        self.threads = threads
        self.example_store = as_text(example_store)
        self.num_examples = num_examples
        self.min_example_similarity = min_example_similarity
        self.allow_same_text = allow_same_text
        self.window_tokens = window_tokens
        self.long_query = long_query
        self.long_passages = long_passages
        self.max_example_passages = max_example_passages
        self.passage_cache = as_text(passage_cache)
        self.log = as_text(log)
        self.log_texts = log_texts
        self.log_days = log_days
        self.reranker = _kept(reranker)
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.min_answerable = min_answerable
        self.query_prefix = query_prefix
        self.passage_prefix = passage_prefix
        self.meta_fields_to_embed = names
        self.embedding_separator = embedding_separator
        self.fusion = fusion
        self.fusion_weight = fusion_weight
        self.examples = None if examples is None else [example.to_dict() for example in Example.list_of(examples)]
        self.on_error = on_error
        self.keep_retrieval_score = keep_retrieval_score
        self.report_truncation = report_truncation

    def __setattr__(self, name: str, value: object) -> None:
        # Haystack's own attributes come after construction too. A changed setting would be saved but not used.
        if name in _SETTINGS and name in self.__dict__:
            raise AttributeError(f"`{name}` is fixed; make another ranker, which may be given the same `Reranker`")
        object.__setattr__(self, name, value)  # not `super()`: `@component` makes a new class of this one

    def warm_up(self) -> None:
        """Load the model and open the example store, once, however many threads ask for it.

        Raises:
            ConfigError: A setting that the checkpoint or the machine cannot serve.
            CheckpointError: The checkpoint cannot be loaded, unless `on_error` is `"keep_order"`: a pipeline warms up
                before every run, and the run is where the order is kept and the reason told.
            DataError: The example store cannot be opened, unless likewise.
        """
        self._stage.warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` in a worker thread: Haystack would run `warm_up` on the event loop."""
        await asyncio.to_thread(self.warm_up)

    def close(self) -> None:
        """Let go of model and store; the next use loads them again. Given ones stay with their owner's other users."""
        self._stage.close()

    async def close_async(self) -> None:
        """`close` in a worker thread, because it waits for a model that is being loaded."""
        await asyncio.to_thread(self.close)

    def to_dict(self) -> dict[str, Any]:
        """Serialise the component.

        Returns:
            The constructor's arguments as JSON values.

        Raises:
            ConfigError: The example store is an object, not a path.
        """
        kept = {name: getattr(self, name) for name in _SETTINGS}
        kept["example_store"] = plain_store(self.example_store)
        kept["reranker"] = plain_reranker(self.reranker)
        return default_to_dict(self, **copy.deepcopy(kept))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GLiClassRanker:
        """Build the component from what `to_dict` returned.

        Args:
            data: The serialised component; not changed.

        Returns:
            The component; its model is not loaded yet.
        """
        # A copy, because Haystack 2 writes the device that it rebuilds into the caller's dict.
        return default_from_dict(cls, {**data, "init_parameters": dict(data.get("init_parameters", {}))})

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        where: dict[str, Any] | None = None,  # Any: JSON
    ) -> dict[str, list[Document]]:
        """Rank documents.

        Args:
            query: What is searched for; not blank.
            documents: What the retriever found, best first; may be empty. Never changed. One without text, or with a
                blank one, is not shown to the model: it comes last, with a score of 0, and every threshold above 0
                drops it.
            top_k: As in the constructor; None for the constructor's.
            score_threshold: As in the constructor; None for the constructor's.
            where: Metadata values that the store's examples must have, such as those of one tenant; None for all.

        Returns:
            `documents`: copies, most relevant first, ties in the order they came in. `score` is the reranker's score
            or the fused one, in [0, 1]; what was asked for beside it is in `meta`.

        Raises:
            InputError: An argument of the wrong type, a blank query, or a score that fusion misses.
            WindowOverflowError: Query and examples leave no room for a passage.
            CheckpointError: The checkpoint cannot be loaded.
            DataError: The example store cannot be opened.
            BackendError: The forward pass or the example store failed.
        """
        found = deduplicated(documents)
        texts, scores = self._texts(found), [document.score for document in found]
        ids = [document.id for document in found]
        ranking = self._stage.run(
            query, texts, scores, top_k=top_k, score_threshold=score_threshold, where=where, ids=ids
        )
        return {"documents": reranked(found, ranking, self._stage)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        where: dict[str, Any] | None = None,  # Any: JSON
    ) -> dict[str, list[Document]]:
        """`run`, with the model in a worker thread, so that the event loop is never blocked.

        Args:
            query: As for `run`.
            documents: As for `run`.
            top_k: As for `run`.
            score_threshold: As for `run`.
            where: As for `run`.

        Returns:
            As for `run`.
        """
        found = deduplicated(documents)
        texts, scores = self._texts(found), [document.score for document in found]
        ids = [document.id for document in found]
        ranking = await self._stage.arun(
            query, texts, scores, top_k=top_k, score_threshold=score_threshold, where=where, ids=ids
        )
        return {"documents": reranked(found, ranking, self._stage)}

    def _texts(self, documents: Sequence[Document]) -> list[str]:
        return [
            shown_text(document, self.meta_fields_to_embed or (), self.embedding_separator) for document in documents
        ]


def _torch_name(device: ComponentDevice | None) -> str | None:
    if device is None:
        return None
    if not isinstance(device, ComponentDevice):
        raise ConfigError(
            f"`device` must be a `ComponentDevice` or None, got {shown(device)}; `ComponentDevice.from_str` makes one"
        )
    if device.has_multiple_devices:
        raise ConfigError(f"`device` must be a single device, got {device.to_dict()['device_map']}")
    return device.to_torch_str()


def _field_names(names: Sequence[str] | None) -> list[str] | None:
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"`meta_fields_to_embed` must be a list of names, got {shown(names)}")
    return list(names)


def _kept(reranker: Reranker | Mapping[str, Any] | None) -> Reranker | dict[str, Any] | None:
    """The reranker's settings; where they cannot be written down because of an example store, what was given."""
    if isinstance(reranker, Mapping):
        return dict(reranker)
    try:
        return None if reranker is None else reranker.settings
    except ConfigError:
        return reranker
