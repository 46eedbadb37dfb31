"""A node postprocessor around `gliclass_rerank.ContextPruner`.

Importing this module loads no torch; the model is loaded at the first use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import ConfigDict, PrivateAttr, field_serializer, field_validator, model_validator
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index.postprocessor.gliclass_rerank.nodes import annotated, given_query, node_text

from gliclass_rerank import ContextPruner, PrunedPassage
from gliclass_rerank.adapters import checked_items, owned_reranker, plain_reranker

if TYPE_CHECKING:
    from gliclass_rerank import Reranker

    RerankerOrSettings = Reranker | Mapping[str, Any]  # Any: the settings' values
else:
    # pydantic reads annotations at run time, where `Reranker` would bring torch; the pruner checks it.
    RerankerOrSettings = Any


class GLiClassContextPruner(BaseNodePostprocessor):
    """Cuts the sentences of nodes that do not bear on the query, before the LLM reads them.

    Goes behind a retriever or a reranker, and keeps their order and scores. The model is loaded once, at the first use,
    and may be used by any number of threads. Nodes passed in are never changed. A setting that cannot be used is
    refused with a pydantic `ValidationError`.

    Attributes:
        reranker: A `gliclass_rerank.Reranker`, best the one that ranked, or the settings of one; None for the bundled
            model. It is serialised as its settings.
        min_sentence_score: Score from which a sentence is kept, in [0, 1]; None for the core's default.
        keep_empty: Whether nodes that would lose all keep their best sentence; else they are dropped.
        gap: Text in place of what was cut between two sentences.
        on_error: `"keep_all"` returns whole nodes, with the reason in the metadata key `prune_error`, when model or
            store cannot be loaded or fail, or when the query does not fit; `"raise"` raises. Wrong arguments are raised
            either way.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reranker: RerankerOrSettings | None = None
    min_sentence_score: float | None = None
    keep_empty: bool = False
    gap: str = " "
    on_error: Literal["raise", "keep_all"] = "raise"

    _pruner: ContextPruner = PrivateAttr()

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises this class."""
        return "GLiClassContextPruner"

    @model_validator(mode="before")
    @classmethod
    def _without_class_name(cls, values: Any) -> Any:  # Any: whatever is validated
        if isinstance(values, dict) and values.get("class_name") == cls.class_name():
            return {name: value for name, value in values.items() if name != "class_name"}
        return values

    @field_validator("reranker", mode="before")
    @classmethod
    def _own_settings(cls, reranker: object) -> object:
        return owned_reranker(reranker)

    @field_serializer("reranker")
    def _settings(self, reranker: Any) -> dict[str, Any] | None:  # Any: a `Reranker` or a mapping; settings' values
        return plain_reranker(reranker)

    def model_post_init(self, context: Any, /) -> None:  # Any: pydantic's
        """Refuse wrong settings; loads no model.

        Args:
            context: What pydantic hands over.
        """
        super().model_post_init(context)
        names = ("reranker", "min_sentence_score", "keep_empty", "gap", "on_error")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        self._pruner = ContextPruner(**given)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        found, query = checked_items("nodes", nodes, NodeWithScore), given_query(query_bundle).query_str
        return _copies(found, self._pruner.run(query, _texts(found)))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        found, query = checked_items("nodes", nodes, NodeWithScore), given_query(query_bundle).query_str
        return _copies(found, await self._pruner.arun(query, _texts(found)))


def _texts(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [node_text(node, MetadataMode.NONE) for node in nodes]


def _copies(found: Sequence[NodeWithScore], passages: Sequence[PrunedPassage]) -> list[NodeWithScore]:
    copies = []
    for each in passages:
        copied = annotated(found[each.index], found[each.index].score, each.notes())
        copied.node.set_content(each.text)
        copies.append(copied)
    return copies
