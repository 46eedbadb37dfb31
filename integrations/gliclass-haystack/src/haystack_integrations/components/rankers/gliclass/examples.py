"""Judged examples in a Haystack document store: how they get in, and how a ranker finds them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from haystack import Document

from gliclass_rerank import BackendError, ConfigError, Example
from gliclass_rerank.adapters import shown
from gliclass_rerank.examples import ForeignExampleSource, example_metadata

# One for all instances, because a lock in an instance could be neither copied nor pickled; held while a model loads.
_warming_up = threading.Lock()


class EmbeddingRetriever(Protocol):
    """Any of Haystack's embedding retrievers; there is one for each document store."""

    def run(self, query_embedding: list[float], *, top_k: int) -> Mapping[str, Any]:  # Any: `documents`
        """Find documents by an embedding.

        Args:
            query_embedding: What they should be like.
            top_k: How many to find at most.

        Returns:
            `documents`: best first.
        """
        ...


class TextEmbedder(Protocol):
    """Any of Haystack's text embedders."""

    def run(self, text: str) -> Mapping[str, Any]:  # Any: `embedding`, and what else it has to say
        """Embed a text.

        Args:
            text: What to embed.

        Returns:
            `embedding`: the vector.
        """
        ...


def to_document(example: Example | Mapping[str, Any]) -> Document:  # Any: upstream's JSON-like examples
    """Make a document of a judged example, for a document embedder and a document store.

    Args:
        example: What `Example.of` reads.

    Returns:
        A document with the example's text, and its labels in the meta fields `true_labels` and `false_labels`: JSON
        lists as text, because not every store keeps lists. It has no embedding yet.

    Raises:
        InputError: Not an example.
    """
    judged = Example.of(example)
    return Document(content=judged.text, meta=example_metadata(judged))


class HaystackExampleSource(ForeignExampleSource[Document]):
    """Finds judged examples in a document store; for `example_store` of a ranker or a classifier.

    Documents are what `to_document` makes, with embeddings; `true_labels` and `false_labels` may also be lists. The
    store ranks; a similarity is the cosine of the query's embedding and the document's, because the score of a document
    is an inner product in one store, a cosine in the next, and scaled to [0, 1] in either.

    Args:
        retriever: An embedding retriever over the store. It must return embeddings (most have `return_embedding=True`,
            of their own or of their store) unless `to_cosine` is given; where the store holds other documents too, give
            it a filter. Several threads use it at once.
        text_embedder: Embeds the queries, with the model that embedded the documents. It is warmed up at the first use.
        to_cosine: From a document's score to a cosine, for a store whose score is one or can be turned into one:
            `lambda score: score` for an `InMemoryDocumentStore` with `embedding_similarity_function="cosine"`, and
            `lambda score: 2 * score - 1` if the retriever scales scores. None computes the cosine from embeddings.

    Raises:
        ConfigError: Something that cannot be run.
    """

    def __init__(
        self,
        retriever: EmbeddingRetriever,
        text_embedder: TextEmbedder,
        *,
        to_cosine: Callable[[float], float] | None = None,
    ) -> None:
        super().__init__(to_cosine)
        for name, component in (("retriever", retriever), ("text_embedder", text_embedder)):
            if not callable(getattr(component, "run", None)):
                raise ConfigError(f"`{name}` must be a component, got {shown(component)}")
        self._retriever = retriever
        self._text_embedder = text_embedder
        self._is_warm = False

    def _query_vector(self, text: str) -> Sequence[float]:
        if not self._is_warm:
            # Outside a pipeline nobody does, and Haystack's own are not made for several threads.
            with _warming_up:
                warm_up = getattr(self._text_embedder, "warm_up", None)
                if warm_up is not None and not self._is_warm:
                    warm_up()
                self._is_warm = True
        vector: list[float] = self._text_embedder.run(text=text)["embedding"]
        return vector

    def _search(
        self,
        text: str,  # noqa: ARG002 # its vector is what a store is searched by
        vector: Sequence[float] | None,
        count: int,
    ) -> Sequence[tuple[Document, float | None]]:
        documents = self._retriever.run(query_embedding=list(vector or ()), top_k=count)["documents"]
        return [(document, document.score) for document in documents]

    def _content(self, document: Document) -> tuple[str | None, Mapping[str, Any]]:  # Any: whatever metadata hold
        return document.content, document.meta

    def _document_vectors(self, documents: Sequence[Document]) -> Sequence[Sequence[float]]:
        vectors = [document.embedding for document in documents if document.embedding is not None]
        if len(vectors) < len(documents):
            raise BackendError(
                "the retriever must return embeddings; set its or its store's `return_embedding=True`, or pass "
                "`to_cosine`"
            )
        return vectors
