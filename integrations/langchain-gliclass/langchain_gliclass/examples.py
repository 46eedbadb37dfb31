"""Judged examples in a LangChain vector store: how they get in, and how a reranker finds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from gliclass_rerank import ConfigError, Example
from gliclass_rerank.adapters import shown
from gliclass_rerank.examples import ForeignExampleSource, example_metadata


def to_document(example: Example | Mapping[str, Any]) -> Document:  # Any: upstream's JSON-like examples
    """Make a document of a judged example, for `VectorStore.add_documents`.

    Args:
        example: What `Example.of` reads.

    Returns:
        A document with the example's text, and its labels in the metadata keys `true_labels` and `false_labels`: JSON
        lists as text, because not every store keeps lists.

    Raises:
        InputError: Not an example.
    """
    judged = Example.of(example)
    return Document(page_content=judged.text, metadata=example_metadata(judged))


class LangChainExampleSource(ForeignExampleSource[Document]):
    """Finds judged examples in a vector store; for `example_store` of a reranker or a classifier.

    Documents are what `to_document` makes; `true_labels` and `false_labels` may also be lists. The store ranks, with
    its own search; a similarity is the cosine of the query's and the document's embedding, because the score of
    `similarity_search_with_score` is a distance in one store and a similarity in the next. With `to_cosine` neither
    query nor documents are embedded once more.

    Args:
        vector_store: The store. Several threads search it at once.
        embeddings: What its texts are embedded with; None takes `vector_store.embeddings`.
        to_cosine: From the score of `similarity_search_with_score` to a cosine, for a store whose score is one or can
            be turned into one: `lambda score: score` for `InMemoryVectorStore`, `lambda distance: 1 - distance` for a
            cosine distance. None computes the cosine from embeddings.
        search_kwargs: Passed to each search, such as `{"filter": ...}` where the store holds other documents too.

    Raises:
        ConfigError: Not a vector store, or one that does not say how it embeds.
    """

    def __init__(
        self,
        vector_store: VectorStore,
        *,
        embeddings: Embeddings | None = None,
        to_cosine: Callable[[float], float] | None = None,
        search_kwargs: Mapping[str, Any] | None = None,  # Any: the store's
    ) -> None:
        super().__init__(to_cosine)
        if not isinstance(vector_store, VectorStore):
            raise ConfigError(f"`vector_store` must be a `VectorStore`, got {shown(vector_store)}")
        self._store = vector_store
        self._embeddings = vector_store.embeddings if embeddings is None else embeddings
        self._search_kwargs = dict(search_kwargs or {})
        if self._embeddings is None and to_cosine is None:
            raise ConfigError(f"`{type(vector_store).__name__}` has no `embeddings`; pass them, or pass `to_cosine`")

    def _query_vector(self, text: str) -> Sequence[float] | None:
        return None if self._embeddings is None or self._to_cosine is not None else self._embeddings.embed_query(text)

    def _search(
        self,
        text: str,
        vector: Sequence[float] | None,  # noqa: ARG002 # not every store can be searched by a vector
        count: int,
    ) -> Sequence[tuple[Document, float | None]]:
        if self._to_cosine is not None:
            return self._store.similarity_search_with_score(text, k=count, **self._search_kwargs)
        return [(document, None) for document in self._store.similarity_search(text, k=count, **self._search_kwargs)]

    def _content(self, document: Document) -> tuple[str, Mapping[str, Any]]:  # Any: whatever metadata hold
        return document.page_content, document.metadata

    def _document_vectors(self, documents: Sequence[Document]) -> Sequence[Sequence[float]]:
        assert self._embeddings is not None  # the constructor has seen to that
        return self._embeddings.embed_documents([document.page_content for document in documents])
