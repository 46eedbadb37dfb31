"""Store of judged examples, retrieved by the similarity of their texts.

This module checks arguments and embeds texts; `records.py` holds the data, `cached_index.py` its index, and `search.py`
combines both.
"""

from __future__ import annotations

import glob
import json
import os
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np

from gliclass_rerank.checks import (
    checked_cosine,
    checked_count,
    checked_list,
    checked_path,
    checked_text,
    checked_texts,
    is_a,
    named,
    reading,
)
from gliclass_rerank.errors import ConfigError, DataError, InputError, listed, shown
from gliclass_rerank.examples.backends import Backend, builder_of
from gliclass_rerank.examples.cached_index import CachedIndex
from gliclass_rerank.examples.encoders import LocalEncoder, StoreEncoder, encode_checked
from gliclass_rerank.examples.filters import Metadata, Where, make_filter
from gliclass_rerank.examples.index import FloatArray
from gliclass_rerank.examples.judgements import are_of_one_text, merged, text_id
from gliclass_rerank.examples.private_files import create_private
from gliclass_rerank.examples.records import Identity, NewRecord, Records, Stored, metadata_text
from gliclass_rerank.examples.search import Found, Question, answer
from gliclass_rerank.types import Example

_PROBE: Final = "How do judged examples of earlier queries help to rank passages?"
# Cosine of the same model on another machine or in half precision; other models stay below.
_SAME_MODEL: Final = 0.999


class ExampleStore:
    """Store of judged examples, searched by text similarity; thread-safe, a context manager.

    Writes are durable when a method returns. One process with its forks may open a store for writing, or several for
    reading. An unreferenced store closes itself.

    Args:
        path: Store file, created if missing, with its index beside it under `.index`; None for memory.
        encoder: Text encoder; None for the bundled model's backbone. A store opens only with the encoder that filled
            it; change it with `reencode`.
        backend: `numpy` (exact), `faiss` (kind chosen by size), one kind of it (`faiss_flat`, `faiss_hnsw`,
            `faiss_ivf_pq`), or `auto`: numpy up to 20,000 examples, then FAISS if installed.
        read_only: Share the file with other readers; nobody can write meanwhile.

    Attributes:
        path: Store file, or None.

    Raises:
        InputError: The path's folder does not exist, or `encoder` is not an encoder.
        ConfigError: Another encoder filled the store, or the backend is unknown.
        DataError: The store is open elsewhere, damaged, of another format, or not a store.
        BackendError: The encoder's vectors are unusable.
        MissingDependencyError: The backend's package is not installed.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        encoder: StoreEncoder | None = None,
        *,
        backend: Backend = "auto",
        read_only: bool = False,
    ) -> None:
        self.path = None if path is None else checked_path("path", path).absolute()
        if read_only and self.path is None:
            raise InputError("a store in memory cannot be read only, there would be nothing in it")
        builder = builder_of(backend)
        self._encoder = _checked_encoder(encoder)
        probe = encode_checked(self._encoder, [_PROBE])[0]
        self._records = Records(self.path, read_only=read_only)
        try:
            self._dim = self._adopt(Identity(self._encoder.fingerprint, probe))
            index_path = None if self.path is None else _index_path(self.path)
            self._index = CachedIndex(self._records, builder, path=index_path, read_only=read_only)
        except BaseException:
            self._records.close()
            raise
        if self.path is not None and not read_only:
            _clear_leftovers(self.path)  # while nobody else holds the store
        self._closing = weakref.finalize(self, self._index.close)

    def _adopt(self, mine: Identity) -> int:
        """Check the encoder against the store's, or record it in a new store; returns its dimension."""
        filled_by = self._records.identity()
        if filled_by is None:
            self._records.create(mine)
            return mine.dim
        remedy = "open it with that one, or let `ExampleStore.reencode` embed it anew"
        if filled_by.encoder != mine.encoder:
            raise ConfigError(
                f"the store `{named(self.path)}` was filled by the encoder {shown(filled_by.encoder)}, "
                f"not by {shown(mine.encoder)}; {remedy}"
            )
        if filled_by.dim != mine.dim:
            raise ConfigError(
                f"the store `{named(self.path)}` holds vectors of {filled_by.dim} numbers, "
                f"the encoder gives {mine.dim}; {remedy}"
            )
        likeness = float(filled_by.probe @ mine.probe)
        if likeness < _SAME_MODEL and np.any(filled_by.probe):
            raise ConfigError(
                f"the encoder {shown(mine.encoder)} has changed since it filled the store `{named(self.path)}`: "
                f"its vectors of the same text have a cosine of {likeness:.3f}; {remedy}"
            )
        return mine.dim

    # Reading

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
        vectors = self._query_vectors(asked)
        questions = [Question(vector, k, least, one) for vector, one in zip(vectors, filters, strict=True)]
        return answer(self._index, self._records, questions)

    def find_examples(
        self, texts: Sequence[str], k: int, min_similarity: float, *, allow_equal: bool = False
    ) -> list[list[Example]]:
        """Find the examples whose texts are most similar, ties by id."""
        found = self.search_many(texts, k, min_similarity, exclude_texts=None if allow_equal else texts)
        return [[one.example for one in neighbours] for neighbours in found]

    def _query_vectors(self, queries: Sequence[str] | FloatArray) -> FloatArray:
        if not isinstance(queries, np.ndarray):
            return encode_checked(self._encoder, queries, dim=self._dim)
        if queries.ndim != 2 or queries.shape[1] != self._dim or queries.dtype.kind not in "fiu":
            raise InputError(
                f"vectors of queries must be numbers of the shape [num_queries, {self._dim}], got {queries.dtype} "
                f"{list(queries.shape)}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise InputError("vectors of queries must be finite and not zero")
        scaled: FloatArray = (queries.astype(np.float64) / lengths).astype(np.float32)
        return scaled

    # Writing

    def add(
        self,
        examples: Sequence[Example | Mapping[str, Any]],
        ids: Sequence[str] | None = None,
        metadata: Sequence[Metadata | None] | None = None,
    ) -> list[str]:
        """Add all examples, or none if anything is invalid.

        Args:
            examples: Examples, or mappings that `Example.of` reads.
            ids: New ids; None for ascending numbers.
            metadata: JSON values to filter by, one mapping per example; None for none.

        Returns:
            The ids.

        Raises:
            InputError: An argument has the wrong type, or an id exists or is repeated.
            BackendError: The encoder failed.
            DataError: The store cannot be written.
        """
        read = Example.list_of(examples)
        names = None if ids is None else _checked_ids(ids, len(read))
        texts = _metadata_texts(metadata, len(read))
        new = [
            NewRecord(None if names is None else names[position], example, texts[position])
            for position, example in enumerate(read)
        ]
        if not new:
            return []
        vectors = encode_checked(self._encoder, [example.text for example in read], dim=self._dim)

        def write() -> list[str]:
            there = self._records.rows_of(names or ())
            if there:
                raise InputError(f"the store has {listed(there)} already; use `update` to change an example")
            return self._index.write(added=new, vectors=vectors)

        return self._index.changing(write)

    def update(
        self,
        ids: Sequence[str],
        examples: Sequence[Example | Mapping[str, Any]],
        metadata: Sequence[Metadata | None] | None = None,
    ) -> None:
        """Replace all examples, or none if anything is invalid.

        Args:
            ids: Existing ids.
            examples: Replacements. Only changed texts are embedded.
            metadata: New metadata; None keeps the old.

        Raises:
            InputError: An argument has the wrong type, or an id is missing or repeated.
            BackendError: The encoder failed.
            DataError: The store cannot be written.
        """
        read = Example.list_of(examples)
        names = _checked_ids(ids, len(read))
        texts = _metadata_texts(metadata, len(read))
        given = [None] * len(read) if metadata is None else checked_list("metadata", metadata, "mappings")

        def write() -> None:
            before = {old.id: (row, old) for row, old in self._records.find(names).items()}
            missing = set(names) - before.keys()
            if missing:
                raise InputError(f"the store has no {listed(missing)}; use `add` for new examples")
            moved: dict[int, NewRecord] = {}
            kept: dict[int, NewRecord] = {}
            for position, (name, example) in enumerate(zip(names, read, strict=True)):
                row, old = before[name]
                text = metadata_text("metadata", old.metadata) if given[position] is None else texts[position]
                (kept if old.example.text == example.text else moved)[row] = NewRecord(name, example, text)
            vectors = encode_checked(self._encoder, [new.example.text for new in moved.values()], dim=self._dim)
            if moved or kept:
                self._index.write(added=list(moved.values()), vectors=vectors, removed=list(moved), rewritten=kept)

        self._index.changing(write)

    def add_judgements(
        self, example: Example | Mapping[str, Any], *, id: str | None = None, metadata: Metadata | None = None
    ) -> str:
        """Add an example, merged with earlier judgements of its text: the newest judgement of a label wins.

        Args:
            example: Example, or mapping that `Example.of` reads.
            id: Id, possibly of an earlier example of the same text; None derives it from the text.
            metadata: JSON values to filter by; they replace earlier ones under the same keys.

        Returns:
            The id.

        Raises:
            InputError: An argument has the wrong type, or the id belongs to another text.
            BackendError: The encoder failed.
            DataError: The store cannot be written.
        """
        new = Example.of(example)
        name = text_id(new.text) if id is None else checked_text("`id`", id)
        if not name:
            raise InputError("`id` must not be empty")
        fresh = metadata_text("`metadata`", metadata)

        def write() -> None:
            before = self._records.find([name])
            for row, old in before.items():
                if not are_of_one_text(old.example, new):
                    raise InputError(
                        f"the id {shown(name)} belongs to the example {shown(old.example.text)}, got {shown(new.text)}"
                    )
                joined = metadata_text("`metadata`", {**old.metadata, **json.loads(fresh)})
                self._index.write(rewritten={row: NewRecord(name, merged(old.example, new), joined)})
            if not before:
                vectors = encode_checked(self._encoder, [new.text], dim=self._dim)
                self._index.write(added=[NewRecord(name, new, fresh)], vectors=vectors)

        self._index.changing(write)
        return name

    def delete(self, ids: Sequence[str]) -> int:
        """Delete examples.

        Args:
            ids: Ids; unknown ones are ignored.

        Returns:
            Number of deleted examples.

        Raises:
            InputError: `ids` is not a list of strings.
            DataError: The store cannot be written.
        """
        names = checked_texts("ids", ids)

        def write() -> int:
            rows = self._records.rows_of(names)
            if rows:
                self._index.write(removed=list(rows.values()))
            return len(rows)

        return self._index.changing(write)

    # The file

    def save_index(self) -> None:
        """Write the index file, which speeds up opening after a kill; closing writes it too.

        Raises:
            InputError: The store is read-only or closed.
        """
        self._index.changing(self._index.save)

    def close(self) -> None:
        """Write the index and release the file; idempotent."""
        self._closing()

    @property
    def is_closed(self) -> bool:
        """True once the file was released."""
        return not self._closing.alive

    def __copy__(self) -> ExampleStore:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ExampleStore:  # Any: Python's
        return self  # a second one could not open the file

    def __enter__(self) -> ExampleStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def backup(self, path: str | Path) -> None:
        """Copy the store, without its index, to a new file; an `InputError` if it exists.

        Other means of copying an open store may catch half of a change.
        """
        self._records.backup(checked_path("path", path))

    @classmethod
    def reencode(cls, path: str | Path, encoder: StoreEncoder | None = None) -> int:
        """Embed all examples of a closed store with another encoder; atomic.

        Args:
            path: Store file.
            encoder: New encoder; None for the bundled model's backbone.

        Returns:
            Number of examples.

        Raises:
            InputError: `encoder` is not an encoder.
            DataError: The store is missing or open.
            BackendError: The encoder failed.
        """
        target = checked_path("path", path).absolute()
        if not os.path.exists(target):
            raise DataError(f"there is no store `{named(target)}`")
        encoder = _checked_encoder(encoder)
        identity = Identity(encoder.fingerprint, encode_checked(encoder, [_PROBE])[0])
        partial = _renewed_path(target)
        with closing(Records(target)) as source:
            _clear_leftovers(target)
            create_private(partial, source.mode)
            with closing(Records(partial)) as renewed:
                renewed.create(identity)
                for page in source.pages():
                    new = [
                        NewRecord(old.id, old.example, metadata_text("metadata", old.metadata)) for old in page.values()
                    ]
                    vectors = encode_checked(encoder, [old.example.text for old in page.values()], dim=identity.dim)
                    renewed.write(added=new, vectors=vectors)
                num_examples = len(renewed)
            os.replace(partial, target)  # while the old file is still locked
        _index_path(target).unlink(missing_ok=True)
        return num_examples


def _clear_leftovers(path: Path) -> None:
    """Remove temporary files of killed processes."""
    partials = path.parent.glob(f"{glob.escape(_index_path(path).name)}.*partial")
    renewed = _renewed_path(path)
    for leftover in (*partials, renewed, renewed.with_name(f"{renewed.name}-journal")):
        with suppress(OSError):
            leftover.unlink(missing_ok=True)


def _renewed_path(path: Path) -> Path:
    """Temporary path of a store being re-encoded."""
    return path.with_name(f".{path.name}.reencoded")


def _index_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.index")


def _checked_encoder(encoder: StoreEncoder | None) -> StoreEncoder:
    if encoder is None:
        return LocalEncoder()
    with reading("`encoder`"):
        fingerprint = getattr(encoder, "fingerprint", None)
        has_encode = callable(getattr(encoder, "encode", None))
    if not has_encode or not is_a(fingerprint, str) or not fingerprint or is_a(encoder, type):
        raise InputError(
            "`encoder` must have `encode` and a `fingerprint`; make one with `CallableEncoder`, "
            f"`SentenceTransformerEncoder` or `LocalEncoder`, got {shown(encoder)}"
        )
    return encoder


def _checked_ids(ids: object, count: int) -> list[str]:
    names = checked_texts("ids", ids)
    if len(names) != count:
        raise InputError(f"`ids` must name every example, got {len(names)} for {count} examples")
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name:
            raise InputError(f"`ids[{position}]` must not be empty")
        if name in seen:
            raise InputError(f"`ids[{position}]` comes twice, got {shown(name)}")
        seen.add(name)
    return list(names)


def _metadata_texts(metadata: object, count: int) -> list[str]:
    if metadata is None:
        return ["{}"] * count
    entries = checked_list("metadata", metadata, "mappings")
    if len(entries) != count:
        raise InputError(f"`metadata` must have one entry an example, got {len(entries)} for {count} examples")
    return [metadata_text(f"`metadata[{position}]`", entry) for position, entry in enumerate(entries)]
