"""`GLiClassRerank`: `RerankStage` as a LangChain document compressor.

The adapter translates documents, names and traces; every policy is the stage's. Importing it and constructing it load
no torch and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import ensure_config
from pydantic import ConfigDict, PrivateAttr, field_serializer, field_validator

from gliclass_rerank import Example, InputError, RerankerSettings, RerankStage, StageRanking
from gliclass_rerank.adapters import (
    as_text,
    checked_cutoff,
    checked_items,
    owned_examples,
    owned_reranker,
    plain_reranker,
)
from gliclass_rerank.examples import ExampleSource, plain_store
from langchain_gliclass.documents import reranked, shown_text

if TYPE_CHECKING:
    from typing_extensions import Self

    from gliclass_rerank import Reranker

    RerankerOrSettings = Reranker | Mapping[str, Any]  # Any: the settings' values
    Examples = Sequence[Example | Mapping[str, Any]]  # Any: upstream's JSON-like examples
    ExampleStoreOrPath = str | PurePath | ExampleSource
else:
    # pydantic reads annotations at run time, where `Reranker` would bring torch; the stage checks these three.
    RerankerOrSettings = Examples = ExampleStoreOrPath = Any

_STAGE_SETTINGS: Final = (
    *(field.name for field in fields(RerankerSettings)),
    "reranker",
    "min_answerable",
    "query_prefix",
    "passage_prefix",
    "fusion",
    "fusion_weight",
    "examples",
    "on_error",
    "keep_retrieval_score",
    "report_truncation",
)


class GLiClassRerank(BaseDocumentCompressor):
    """Reranks documents with a GLiClass model.

    The model is loaded once, at the first use. An instance does not change after construction and may be shared by any
    number of threads and event loops; a pickle carries the settings, not the model. A setting that cannot be used is
    refused with a pydantic `ValidationError`, which is a `ValueError`.

    Attributes:
        model: A local folder or a hub name; None for the bundled model. See
            `gliclass_rerank.RerankerSettings`; so are those up to `log_days`.
        device: A torch device; None picks one.
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
            as `LangChainExampleSource`. A path travels in pickles and dumps; with a source they are refused.
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
        reranker: A `Reranker` to use, or its settings, in place of the arguments above.
        top_n: How many documents to return; None for all.
        score_threshold: Keep only documents whose reranker's score is at least this, in [0, 1]; applied before `top_n`
            and regardless of fusion. None keeps all.
        min_answerable: Return nothing where the probability that any document answers the query is below this, in
            [0, 1]. None always returns what was found.
        where: Metadata values that the store's examples must have, such as those of one tenant; None for all. A copy
            with another `where` shares the model.
        query_prefix: Put before each query.
        passage_prefix: Put before each passage that is not blank.
        metadata_keys: Metadata whose values the model sees before the content, in this order; a missing or None value
            is skipped.
        separator: Put between these values and the content.
        retrieval_score_key: Metadata key under which the retriever left its score, a number and higher is better; a
            document without it has no retrieval score. None if there is no such key.
        fusion: Combine with the retriever: `"reciprocal_rank"` of both orders, or `"weighted"` mean of both scores.
            None orders by the reranker alone.
        fusion_weight: Share of the reranker in the fused score, in [0, 1].
        examples: Judged examples shown beside every query, in place of the store's; see
            `gliclass_rerank.Reranker.rank`.
        on_error: `"keep_order"` returns the retriever's order, unscored and with the reason in the metadata key
            `rerank_error`, when model or store cannot be loaded or fail, or when the query does not fit; `"raise"`
            raises. Wrong arguments are raised either way.
        keep_retrieval_score: Whether the metadata get the retriever's score, as `retrieval_score`.
        report_truncation: Whether the metadata say what was cut, as `rerank_tokens_lost` and
            `rerank_query_tokens_lost`, which characters of a long text were its best chunk, as `rerank_chunk_start` and
            `rerank_chunk_end`, and whether invalid Unicode was replaced, as `rerank_repaired`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True, strict=True)

    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    plan: str | None = None
    revision: str | None = None
    max_window_tokens: int | None = None
    max_example_tokens: int | None = None
    batch_tokens: int | None = None
    backend: str | None = None
    threads: int | None = None
    example_store: ExampleStoreOrPath | None = None
    num_examples: int = 3
    min_example_similarity: float = 0.5
    allow_same_text: bool = True
    window_tokens: int | None = None
    long_query: Literal["cut", "error"] = "cut"
    long_passages: Literal["cut", "best_chunk"] = "best_chunk"
    max_example_passages: int | None = None
    passage_cache: str | None = None
    log: str | None = None
    log_texts: bool = True
    log_days: int | None = None
    reranker: RerankerOrSettings | None = None
    top_n: int | None = None
    score_threshold: float | None = None
    min_answerable: float | None = None
    where: Mapping[str, Any] | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    metadata_keys: Sequence[str] = ()
    separator: str = "\n"
    retrieval_score_key: str | None = None
    fusion: Literal["reciprocal_rank", "weighted"] | None = None
    fusion_weight: float = 0.5
    examples: Examples | None = None
    on_error: Literal["raise", "keep_order"] = "raise"
    keep_retrieval_score: bool = False
    report_truncation: bool = False

    _stage: RerankStage = PrivateAttr()

    @field_validator("model", "example_store", "passage_cache", "log", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return as_text(value)

    @field_validator("reranker", mode="before")
    @classmethod
    def _own_settings(cls, reranker: object) -> object:
        return owned_reranker(reranker)

    @field_validator("examples", mode="before")
    @classmethod
    def _own_examples(cls, examples: object) -> object:
        return owned_examples(examples)

    @field_serializer("example_store")
    def _plain_store(self, value: Any) -> Any:  # Any: checked by the stage
        return plain_store(value)

    @field_serializer("reranker")
    def _plain_reranker(self, value: Any) -> Any:  # Any: checked by the stage
        return plain_reranker(value)

    @field_serializer("examples")
    def _plain_examples(self, value: Any) -> Any:  # Any: checked by the stage
        return None if value is None else [example.to_dict() for example in value]

    def model_post_init(self, _context: Any, /) -> None:  # Any: pydantic's
        """Refuse wrong settings; pydantic calls this."""
        self._stage = RerankStage(**{name: getattr(self, name) for name in _STAGE_SETTINGS})
        checked_cutoff("top_n", self.top_n)
        if self.fusion == "weighted" and self.retrieval_score_key is None:
            raise InputError(
                "weighted fusion needs `retrieval_score_key`, where the retriever left its score, got None"
            )
        # These go with each call, so that copies with other values share the stage; an empty run checks two of them.
        self._stage.run("any", (), top_k=self.top_n, score_threshold=self.score_threshold)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy, with other values for some settings; unlike pydantic's, the values are checked.

        The copy shares the model, loaded or not, unless a setting is updated that the model or the order depends on
        (any but `top_n`, `score_threshold`, `where`, `metadata_keys`, `separator` and `retrieval_score_key`); a given
        `Reranker` is shared always.

        Args:
            update: The values to change, by name.
            deep: As in pydantic; the model is never copied.

        Returns:
            The copy.
        """
        if not update:
            return super().model_copy(deep=deep)
        checked = type(self)(**{**dict(self), **update})
        copied = super().model_copy(update={name: getattr(checked, name) for name in update}, deep=deep)
        if not update.keys().isdisjoint(_STAGE_SETTINGS):
            copied._stage = checked._stage
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        plain = {
            "example_store": self._plain_store(self.example_store),
            "reranker": self._plain_reranker(self.reranker),
        }
        return {**state, "__dict__": {**state["__dict__"], **plain}}

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Rerank what a retriever found; LangChain calls this, see `rerank`.

        Args:
            documents: As for `rerank`.
            query: As for `rerank`.
            callbacks: As for `rerank`.

        Returns:
            As for `rerank`.
        """
        return self.rerank(documents, query, callbacks=callbacks)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """`compress_documents` that never blocks the event loop.

        Args:
            documents: As for `rerank`.
            query: As for `rerank`.
            callbacks: As for `rerank`.

        Returns:
            As for `rerank`.
        """
        return await self.arerank(documents, query, callbacks=callbacks)

    def rerank(
        self,
        documents: Sequence[Document],
        query: str,
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
        where: Mapping[str, Any] | None = None,  # Any: JSON
        callbacks: Callbacks | None = None,
    ) -> list[Document]:
        """Rerank what a retriever found.

        Args:
            documents: What the retriever found, best first; may be empty. Never changed.
            query: What is searched for; not blank.
            top_n: As in the constructor; None for the constructor's.
            score_threshold: As in the constructor; None for the constructor's.
            where: As in the constructor; None for the constructor's.
            callbacks: LangChain's, which see the step as a run named after the class; None takes those of the run that
                this is called in.

        Returns:
            Copies, best first, ties in the retriever's order, with the score in `metadata["relevance_score"]`.
            Documents whose text is blank come last with a score of 0.

        Raises:
            InputError: An argument of the wrong type, a blank query, or a retrieval score that fusion misses.
            WindowOverflowError: Query and examples leave no room for a passage.
            CheckpointError: The checkpoint cannot be loaded.
            DataError: The example store cannot be opened.
            BackendError: The forward pass or the example store failed.
        """
        found = checked_items("documents", documents, Document)
        manager = CallbackManager.configure(inheritable_callbacks=_callbacks(callbacks))
        run = manager.on_chain_start(None, _inputs(found, query), name=type(self).__name__)
        try:
            ranking = self._stage.run(**self._call(found, query, top_n, score_threshold, where))
        except BaseException as error:
            run.on_chain_error(error)
            raise
        run.on_chain_end(_outputs(ranking))
        return self._reranked(found, ranking)

    async def arerank(
        self,
        documents: Sequence[Document],
        query: str,
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
        where: Mapping[str, Any] | None = None,  # Any: JSON
        callbacks: Callbacks | None = None,
    ) -> list[Document]:
        """`rerank`, with the model in a worker thread, so that the event loop is never blocked.

        Args:
            documents: As for `rerank`.
            query: As for `rerank`.
            top_n: As for `rerank`.
            score_threshold: As for `rerank`.
            where: As for `rerank`.
            callbacks: As for `rerank`.

        Returns:
            As for `rerank`.
        """
        found = checked_items("documents", documents, Document)
        manager = AsyncCallbackManager.configure(inheritable_callbacks=_callbacks(callbacks))
        run = await manager.on_chain_start(None, _inputs(found, query), name=type(self).__name__)
        try:
            ranking = await self._stage.arun(**self._call(found, query, top_n, score_threshold, where))
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        await run.on_chain_end(_outputs(ranking))
        return self._reranked(found, ranking)

    def _call(
        self,
        found: Sequence[Document],
        query: str,
        top_n: int | None,
        score_threshold: float | None,
        where: Mapping[str, Any] | None,  # Any: JSON
    ) -> dict[str, Any]:  # Any: the values of the stage's arguments
        key = self.retrieval_score_key
        scores = None if key is None else [document.metadata.get(key) for document in found]
        if self.fusion == "weighted" and scores is not None:
            for index, score in enumerate(scores):
                if score is None:
                    raise InputError(
                        f"weighted fusion needs the retrieval score of each document under the metadata key {key!r} "
                        f"(`retrieval_score_key`), and `documents[{index}]` has none"
                    )
        return {
            "query": query,
            "passages": [shown_text(document, self.metadata_keys, self.separator) for document in found],
            "ids": [document.id for document in found],
            "retrieval_scores": scores,
            "top_k": self.top_n if top_n is None else checked_cutoff("top_n", top_n),
            "score_threshold": self.score_threshold if score_threshold is None else score_threshold,
            "where": self.where if where is None else where,
        }

    def _reranked(self, found: Sequence[Document], ranking: StageRanking) -> list[Document]:
        return [reranked(found[hit.index], hit.score, self._stage.notes(hit, ranking)) for hit in ranking]


def _callbacks(given: Callbacks | None) -> Callbacks | None:
    # As runnables do: what runs inside another run, such as a `RunnableLambda`, is its child.
    return ensure_config().get("callbacks") if given is None else given


def _inputs(found: Sequence[Document], query: str) -> dict[str, Any]:
    # The documents themselves are what the retriever's run reports.
    return {"query": query, "num_documents": len(found)}


def _outputs(ranking: StageRanking) -> dict[str, Any]:
    outputs: dict[str, Any] = {"ranking": [{"index": hit.index, "relevance_score": hit.score} for hit in ranking]}
    notes = {"ranking_id": ranking.id, "rerank_error": ranking.error}
    return outputs | {name: note for name, note in notes.items() if note is not None}
