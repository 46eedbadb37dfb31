"""Reading half of a store: looking up and searching examples."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from gliclass_rerank.checks import checked_cosine, checked_count, checked_list, checked_text, checked_texts, is_a
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.examples.cached_index import CachedIndex
from gliclass_rerank.examples.encoders import StoreEncoder
from gliclass_rerank.examples.filters import Where, make_filter
from gliclass_rerank.examples.index import FloatArray
from gliclass_rerank.examples.records import Records
from gliclass_rerank.examples.rows import Stored
from gliclass_rerank.examples.search import Found, Question, answer
from gliclass_rerank.examples.source import Neighbour, NeighbourFinder
from gliclass_rerank.examples.store_checks import query_vectors
from gliclass_rerank.examples.text_identity import text_digest, text_identity
from gliclass_rerank.types import Example


class StoredExamples(NeighbourFinder):
    """Examples that can be read and searched; thread-safe.

    Args:
        encoder: Encoder of queries.
        dim: Dimension of its vectors.
        records: Records of the store.
        index: Index of the records.
    """

    def __init__(self, encoder: StoreEncoder, dim: int, records: Records, index: CachedIndex) -> None:
        self._encoder = encoder
        self._dim = dim
        self._records = records
        self._index = index

    @property
    def version(self) -> str:
        """Version of the examples, which every write by any process changes."""
        return f"{self._records.position().state:x}"

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._records.rows_of([name]))

    def __iter__(self) -> Iterator[Stored]:
        """Iterate over all examples in order of writing; one updated meanwhile may come twice."""
        for page in self._records.pages():
            yield from page.values()

    def get(self, name: str) -> Stored:
        """Look up an example by its id; an `InputError` if it is missing."""
        found = self._records.find([checked_text("an id", name)])
        if not found:
            raise InputError(f"there is no example with the id {shown(name)}")
        return next(iter(found.values()))

    def search(
        self,
        query: str | FloatArray,
        k: int = 3,
        min_similarity: float = 0.5,
        *,
        where: Where = None,
        exclude_ids: Collection[str] = (),
        exclude_text: str | None = None,
    ) -> list[Found]:
        """Find the examples whose texts are most similar to a query.

        Args:
            query: Text, or non-zero FloatArray [dim] of this store's encoder.
            k: Maximum number of examples.
            min_similarity: Minimum cosine, in [-1, 1].
            where: Required metadata values, or a predicate on the metadata. Selective filters cause a full scan.
            exclude_ids: Ids to exclude.
            exclude_text: Text to exclude, regardless of case and white space, such as the query's own.

        Returns:
            Examples, most similar first; ties by id.

        Raises:
            InputError: An argument has the wrong type or is out of range.
            BackendError: The encoder failed.
        """
        if is_a(query, str):
            queries: list[str] | FloatArray = [query]  # type: ignore[list-item] # a string
        elif is_a(query, np.ndarray) and np.ndim(query) == 1:
            queries = np.asarray(query)[None]
        else:
            raise InputError(f"`query` must be a string or a vector, got {shown(query)}")
        (found,) = self.search_many(
            queries,
            k,
            min_similarity,
            where=where,
            exclude_ids=exclude_ids,
            exclude_texts=[exclude_text],
        )
        return found

    def search_many(
        self,
        queries: Sequence[str] | FloatArray,
        k: int = 3,
        min_similarity: float = 0.5,
        *,
        where: Where = None,
        exclude_ids: Collection[str] = (),
        exclude_texts: Sequence[str | None] | None = None,
    ) -> list[list[Found]]:
        """Search for several queries together, faster than one by one.

        Args:
            queries: Texts, or FloatArray [num_queries, dim].
            k: Maximum number of examples per query.
            min_similarity: Minimum cosine, in [-1, 1].
            where: Required metadata values, or a predicate on the metadata.
            exclude_ids: Ids to exclude.
            exclude_texts: Text to exclude, or None, per query.

        Returns:
            Examples per query.

        Raises:
            InputError: An argument has the wrong type or is out of range.
            BackendError: The encoder failed.
        """
        k = checked_count("k", k)
        least = checked_cosine("min_similarity", min_similarity)
        asked = np.asarray(queries) if is_a(queries, np.ndarray) else checked_texts("queries", queries)
        if is_a(asked, np.ndarray) and not np.ndim(asked):
            raise InputError(f"`queries` must be texts or vectors, got {shown(queries)}")
        num_queries = len(asked)
        excluded = [None] * num_queries
        if exclude_texts is not None:
            excluded = checked_list("exclude_texts", exclude_texts, "texts")
        if len(excluded) != num_queries:
            raise InputError(f"`exclude_texts` must have one text a query, got {len(excluded)} for {num_queries}")
        filters = [make_filter(where, exclude_ids, text) for text in excluded]
        if not num_queries:
            return []
        vectors = query_vectors(self._encoder, self._dim, asked)
        questions = [Question(vector, k, least, one) for vector, one in zip(vectors, filters, strict=True)]
        return answer(self._index, self._records, questions)

    def find_neighbours(
        self,
        texts: Sequence[str],
        k: int,
        min_similarity: float,
        *,
        allow_equal: bool = False,
        where: Where = None,
    ) -> list[list[Neighbour]]:
        """Find the examples whose texts are most similar, ties by id."""
        excluded = None if allow_equal else texts
        found = self.search_many(texts, k, min_similarity, where=where, exclude_texts=excluded)
        return [[Neighbour(one.example, one.similarity) for one in neighbours] for neighbours in found]

    def find_judgements(self, texts: Sequence[str], *, where: Where = None) -> list[list[Example]]:
        """Find the examples of the very texts, regardless of case and white space.

        Args:
            texts: Queries.
            where: Required metadata values, or a predicate on the metadata.

        Returns:
            Examples per text, in order of writing.

        Raises:
            InputError: An argument has the wrong type.
        """
        names = checked_texts("texts", texts)
        fits = make_filter(where, (), None).accepts
        found = self._records.of_texts(list({text_digest(name) for name in names}))
        by_text: dict[str, list[Example]] = {}
        for stored in found.values():
            if fits(stored):
                by_text.setdefault(text_identity(stored.example.text), []).append(stored.example)
        return [by_text.get(text_identity(name), []) for name in names]
