"""A node postprocessor around `gliclass_rerank.RerankStage`: LlamaIndex's words outside, the stage's inside.

Every policy (blank texts, ties, thresholds, fusion, failures) is the stage's. Importing this module loads no torch; the
model is loaded at the first use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    field_serializer,
    field_validator,
    model_validator,
)
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined] # re-exported without a word
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index.postprocessor.gliclass_rerank.events import reported
from llama_index.postprocessor.gliclass_rerank.nodes import annotated, given_query, node_text

from gliclass_rerank import Example, RerankerSettings, RerankStage, StageRanking
from gliclass_rerank.adapters import (
    as_text,
    checked_cutoff,
    checked_items,
    owned_examples,
    owned_reranker,
    plain_reranker,
)
from gliclass_rerank.examples import ExampleSource, plain_store

if TYPE_CHECKING:
    from typing_extensions import Self

    from gliclass_rerank import Reranker

    RerankerOrSettings = Reranker | Mapping[str, Any]  # Any: the settings' values
    ExampleStoreOrPath = str | PurePath | ExampleSource
else:
    # pydantic reads annotations at run time, where `Reranker` would bring torch; the stage checks both.
    RerankerOrSettings = ExampleStoreOrPath = Any

dispatcher = get_dispatcher(__name__)

_Method = TypeVar("_Method", bound=Callable[..., Any])

# Fields that `RerankStage` is built with; `top_n` and `score_threshold` go with every call instead.
_STAGE_FIELDS: Final = (
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

# One for all instances, because a lock in an instance could be neither copied nor pickled; held for microseconds.
_building = threading.Lock()


def _traced(method: _Method) -> _Method:
    # The cast puts back the signature, which `span` keeps at run time but not in its annotation.
    return cast(_Method, dispatcher.span(method))


class GLiClassRerank(BaseNodePostprocessor):
    """Reranks nodes with a GLiClass model.

    The model is loaded once, at the first use, and may be used by any number of threads. Nodes passed in are never
    changed: the result holds copies, whose embedding and related nodes are shared with the originals.

    Fields may be changed later, by assignment or `model_copy(update=...)`. The model, loaded or not, stays and is
    shared by copies as long as only `top_n`, `score_threshold` and `metadata_mode` change, and always if a `Reranker`
    was given; other changes load it anew. A setting that cannot be used is refused with a pydantic `ValidationError`,
    which is a `ValueError`.

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
            as `LlamaIndexExampleSource`. A path is serialised; with a source, serialising is refused.
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
            serialised as its settings.
        top_n: How many nodes to return; None for all.
        score_threshold: Keep only nodes whose reranker's score is at least this, in [0, 1]; applied before `top_n` and
            regardless of fusion. None keeps all.
        min_answerable: Return nothing where the probability that any node answers the query is below this, in
            [0, 1]. None always returns what was found.
        where: Metadata values that the store's examples must have, such as those of one tenant; None for all.
        query_prefix: Put before each query.
        passage_prefix: Put before each node's text unless it is blank.
        metadata_mode: Which text of a node is ranked: `EMBED` with the metadata meant for the embedding model, `LLM`
            with those meant for the LLM, `ALL` with all, `NONE` without any.
        fusion: Combine with the retriever: `"reciprocal_rank"` of both orders, or `"weighted"` mean of both scores.
            None orders by the reranker alone.
        fusion_weight: Share of the reranker in the fused score, in [0, 1].
        examples: Judged examples shown beside every query, in place of the store's, as `gliclass_rerank.Example` or
            mappings.
        on_error: `"keep_order"` returns the retriever's order and scores, with the reason in the metadata key
            `rerank_error`, when model or store cannot be loaded or fail, or when the query does not fit; `"raise"`
            raises. Wrong arguments are raised either way.
        keep_retrieval_score: Whether the metadata key `retrieval_score` keeps the retriever's score.
        report_truncation: Whether the metadata say what was cut, as `rerank_tokens_lost` and
            `rerank_query_tokens_lost`, which characters of a long text were its best chunk, as `rerank_chunk_start` and
            `rerank_chunk_end`, and whether invalid Unicode was replaced, as `rerank_repaired`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, validate_assignment=True)

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
    where: dict[str, Any] | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    metadata_mode: MetadataMode = Field(default=MetadataMode.EMBED, strict=False)  # JSON has its value
    fusion: Literal["reciprocal_rank", "weighted"] | None = None
    fusion_weight: float = 0.5
    examples: Sequence[Example | Mapping[str, Any]] | None = None  # Any: upstream's JSON-like examples
    on_error: Literal["raise", "keep_order"] = "raise"
    keep_retrieval_score: bool = False
    report_truncation: bool = False

    _stage: RerankStage = PrivateAttr()
    _built_with: dict[str, Any] = PrivateAttr(default_factory=dict)  # Any: values of fields

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises this class."""
        return "GLiClassRerank"

    @model_validator(mode="before")
    @classmethod
    def _without_class_name(cls, values: Any) -> Any:  # Any: whatever is validated
        # `model_dump` adds it and `from_dict` drops it; a user's model that holds this one calls neither.
        if isinstance(values, dict) and values.get("class_name") == cls.class_name():
            return {name: value for name, value in values.items() if name != "class_name"}
        return values

    @field_validator("model", "example_store", "passage_cache", "log", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return as_text(value)

    @field_validator("reranker", mode="before")
    @classmethod
    def _own_settings(cls, reranker: object) -> object:
        return owned_reranker(reranker)

    @field_validator("examples", mode="plain")
    @classmethod
    def _own_examples(cls, examples: Any) -> Any:  # Any: what is no list of examples is left for the stage to refuse
        return owned_examples(examples)

    @field_serializer("example_store")
    def _path(self, store: Any) -> Any:  # Any: a path or a source; a path
        return plain_store(store)

    @field_serializer("reranker")
    def _settings(self, reranker: Any) -> dict[str, Any] | None:  # Any: a `Reranker` or a mapping; settings' values
        return plain_reranker(reranker)

    @field_serializer("examples")
    def _example_values(self, examples: Any) -> list[dict[str, Any]] | None:  # Any: a tuple of examples; JSON values
        return None if examples is None else [example.to_dict() for example in examples]

    @field_serializer("metadata_mode")
    def _mode_value(self, mode: MetadataMode) -> str:
        return mode.value

    def model_post_init(self, context: Any, /) -> None:  # Any: pydantic's
        """Refuse wrong settings; loads no model.

        Args:
            context: What pydantic hands over.
        """
        super().model_post_init(context)
        self._current_stage()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy, with other values for some fields; unlike pydantic's, the values are checked.

        Args:
            update: The values to change, by name.
            deep: As in pydantic; the model is never copied.

        Returns:
            The copy; see the class for when it shares the model.
        """
        if not update:
            return super().model_copy(deep=deep)
        checked = type(self)(**{**dict(self), **update})
        return super().model_copy(update={name: getattr(checked, name) for name in update}, deep=deep)

    def __getstate__(self) -> dict[str, Any]:  # Any: values of fields
        # Of a copy, because the base deletes what it cannot pickle from the very `__dict__` it is shown; with the
        # settings in place of a reranker, so that no model is loaded where the pickle is read.
        plain = {"example_store": self._path(self.example_store), "reranker": self._settings(self.reranker)}
        copied = self.model_copy(update=plain)
        copied._current_stage()
        return super(GLiClassRerank, copied).__getstate__()

    @_traced
    def rerank(
        self,
        nodes: Sequence[NodeWithScore],
        query: str | QueryBundle,
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
        where: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> list[NodeWithScore]:
        """Rerank nodes, with limits for this call.

        Args:
            nodes: What the retriever found, best first; may be empty. Never changed. Nodes without text are not shown
                to the model: they come last, with a score of 0, and every threshold above 0 drops them.
            query: What is searched for; not blank.
            top_n: As in the class; None for the instance's.
            score_threshold: As in the class; None for the instance's.
            where: As in the class; None for the instance's.

        Returns:
            Copies of the nodes with the new scores, best first; ties in the retriever's order.

        Raises:
            InputError: An argument of the wrong type, a blank query, or a retrieval score that fusion misses.
            WindowOverflowError: Query and examples leave no room for a text.
            CheckpointError: The checkpoint cannot be loaded.
            DataError: The example store cannot be opened.
            BackendError: The forward pass or the example store failed.
        """
        nodes = checked_items("nodes", nodes, NodeWithScore)
        if not nodes:
            return []
        stage = self._current_stage()
        call = self._call(stage, nodes, query, top_n, score_threshold, where)
        with reported(self.callback_manager, nodes, query, call["top_k"], self._model_name()) as outcome:
            outcome.extend(_reranked(nodes, stage, stage.run(**call)))
        return outcome

    @_traced
    async def arerank(
        self,
        nodes: Sequence[NodeWithScore],
        query: str | QueryBundle,
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
        where: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> list[NodeWithScore]:
        """`rerank`, and loading if it is due, in a worker thread, so that the event loop is never blocked.

        Args:
            nodes: As for `rerank`.
            query: As for `rerank`.
            top_n: As for `rerank`.
            score_threshold: As for `rerank`.
            where: As for `rerank`.

        Returns:
            As for `rerank`.
        """
        nodes = checked_items("nodes", nodes, NodeWithScore)
        if not nodes:
            return []
        stage = self._current_stage()
        call = self._call(stage, nodes, query, top_n, score_threshold, where)
        with reported(self.callback_manager, nodes, query, call["top_k"], self._model_name()) as outcome:
            outcome.extend(_reranked(nodes, stage, await stage.arun(**call)))
        return outcome

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return self.rerank(nodes, given_query(query_bundle))

    @_traced
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return await self.arerank(nodes, given_query(query_bundle))

    def _current_stage(self) -> RerankStage:
        """The stage for the fields as they are now: the one there is, unless one of its settings was changed."""
        settings = {name: getattr(self, name) for name in _STAGE_FIELDS}
        checked_cutoff("top_n", self.top_n)
        with _building:
            if settings != self._built_with:
                self._stage = RerankStage(top_k=self.top_n, score_threshold=self.score_threshold, **settings)
                self._built_with = settings
            return self._stage

    def _call(
        self,
        stage: RerankStage,
        nodes: Sequence[NodeWithScore],
        query: str | QueryBundle,
        top_n: int | None,
        score_threshold: float | None,
        where: Mapping[str, Any] | None,  # Any: JSON
    ) -> dict[str, Any]:  # Any: the values of the stage's arguments
        limits = (checked_cutoff("top_n", top_n), self.top_n, len(nodes))
        thresholds = (score_threshold, self.score_threshold, 0.0)
        limited: dict[str, Any] = {  # Any: as above
            "query": query.query_str if isinstance(query, QueryBundle) else query,
            # Always given, because the stage's own are those of the day it was built.
            "top_k": next(limit for limit in limits if limit is not None),
            "score_threshold": next(threshold for threshold in thresholds if threshold is not None),
            "where": self.where if where is None else where,
        }
        # Checked before events are told of them, which take some types only.
        stage.run(passages=(), **limited)
        texts = [node_text(node, self.metadata_mode) for node in nodes]
        scores, ids = [node.score for node in nodes], [node.node.node_id for node in nodes]
        return {"passages": texts, "retrieval_scores": scores, "ids": ids, **limited}

    def _model_name(self) -> str:
        reranker = self.reranker
        if reranker is None or isinstance(reranker, Mapping):
            model = self.model if reranker is None else reranker.get("model")
            return str(model or "bundled")
        return reranker.name  # not its settings, which may not be written down


def _reranked(nodes: Sequence[NodeWithScore], stage: RerankStage, ranking: StageRanking) -> list[NodeWithScore]:
    return [annotated(nodes[hit.index], hit.score, stage.notes(hit, ranking)) for hit in ranking]
