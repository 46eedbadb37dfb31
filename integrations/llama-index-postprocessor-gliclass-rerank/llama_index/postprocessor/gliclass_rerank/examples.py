"""Judged examples in a LlamaIndex index: how they get in, and how a reranker finds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import BaseNode, MetadataMode, QueryBundle, TextNode

from gliclass_rerank import ConfigError, Example
from gliclass_rerank.adapters import shown
from gliclass_rerank.examples import ForeignExampleSource, example_metadata


def to_node(example: Example | Mapping[str, Any]) -> TextNode:  # Any: upstream's JSON-like examples
    """Make a node of a judged example, for `VectorStoreIndex(nodes=...)` or `insert_nodes`.

    Args:
        example: What `Example.of` reads.

    Returns:
        A node with the example's text, and its labels in the metadata keys `true_labels` and `false_labels`: JSON lists
        as text, because vector stores take flat metadata only. Neither an embedding model nor an LLM reads them.

    Raises:
        InputError: Not an example.
    """
    judged = Example.of(example)
    labels = example_metadata(judged)
    return TextNode(
        text=judged.text,
        metadata=labels,
        excluded_embed_metadata_keys=[*labels],
        excluded_llm_metadata_keys=[*labels],
    )


class LlamaIndexExampleSource(ForeignExampleSource[BaseNode]):
    """Finds judged examples in a vector index, or with a retriever; for `example_store` of a reranker or a classifier.

    Nodes are what `to_node` makes; `true_labels` and `false_labels` may also be lists. The index ranks; a similarity is
    the cosine of the query's embedding and that of the node's text for embedding, because the score of a node is a
    cosine in one vector store and something else in the next. With `to_cosine` nothing is embedded once more.

    Args:
        index: A `VectorStoreIndex`, which is asked for as many nodes as are needed; or a retriever, which returns as
            many as it was made to return: give it a `similarity_top_k` of a few times the number of examples wanted.
            Several threads search it at once.
        embed_model: What its texts are embedded with; None takes the index's. A retriever does not tell.
        to_cosine: From a node's score to a cosine, for a vector store whose score is one or can be turned into one:
            `lambda score: score` for the `SimpleVectorStore` that an index has by default. None computes the cosine
            from embeddings.
        retriever_kwargs: Passed to `index.as_retriever`, such as `{"filters": ...}` where the index holds other nodes
            too.

    Raises:
        ConfigError: Neither an index nor a retriever, or a retriever without `embed_model` and `to_cosine`.
    """

    def __init__(
        self,
        index: VectorStoreIndex | BaseRetriever,
        *,
        embed_model: BaseEmbedding | None = None,
        to_cosine: Callable[[float], float] | None = None,
        retriever_kwargs: Mapping[str, Any] | None = None,  # Any: the retriever's
    ) -> None:
        super().__init__(to_cosine)
        if not isinstance(index, (VectorStoreIndex, BaseRetriever)):
            raise ConfigError(f"`index` must be a `VectorStoreIndex` or a retriever, got {shown(index)}")
        self._index = index
        # Private there, and read by LlamaIndex's own retriever in the same way.
        self._embed_model = getattr(index, "_embed_model", None) if embed_model is None else embed_model
        self._retriever_kwargs = dict(retriever_kwargs or {})
        if self._embed_model is None and to_cosine is None:
            raise ConfigError("a retriever does not say how it embeds; pass `embed_model`, or pass `to_cosine`")

    def _query_vector(self, text: str) -> Sequence[float] | None:
        if self._embed_model is None or self._to_cosine is not None:
            return None
        vector: list[float] = self._embed_model.get_query_embedding(text)
        return vector

    def _search(self, text: str, vector: Sequence[float] | None, count: int) -> Sequence[tuple[BaseNode, float | None]]:
        retriever = self._index
        if isinstance(retriever, VectorStoreIndex):
            # A new one each time: how many nodes it returns is a setting of it, and threads must not share that.
            retriever = retriever.as_retriever(**{**self._retriever_kwargs, "similarity_top_k": count})
        found = retriever.retrieve(QueryBundle(text, embedding=None if vector is None else [*vector]))
        return [(hit.node, hit.score) for hit in found]

    def _content(self, document: BaseNode) -> tuple[str, Mapping[str, Any]]:  # Any: whatever metadata hold
        return document.get_content(metadata_mode=MetadataMode.NONE), document.metadata

    def _document_vectors(self, documents: Sequence[BaseNode]) -> Sequence[Sequence[float]]:
        assert self._embed_model is not None  # the constructor has seen to that
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in documents]
        vectors: list[list[float]] = self._embed_model.get_text_embedding_batch(texts)
        return vectors
