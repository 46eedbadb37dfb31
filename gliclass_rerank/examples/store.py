"""The store of judged examples: put in with their text's vector, found again by similarity.

This module checks arguments and embeds texts. `records.py` keeps what is written, `cached_index.py` the index of it,
and `search.py` has the two work together.
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
# The same model gives this much on another machine or in half precision; another one does not.
_SAME_MODEL: Final = 0.999


class ExampleStore:
    """Judged examples, found by the similarity of their texts. May be shared by threads; a context manager.

    What a method has written is safe on the disk when it returns. One process, together with those forked from it, can
    have a store open for writing, or several for reading. A store that nobody holds any more closes itself.

    Args:
        path: The file of the store, made if it does not exist; its index lies beside it with `.index` added to the
            name. None keeps everything in memory.
        encoder: Embeds texts; None for the bundled model's backbone. A store can only be opened with the encoder that
            filled it, see `reencode`.
        backend: What searches: `numpy` (exact), `faiss` (kind chosen by size) or one kind of it (`faiss_flat`,
            `faiss_hnsw`, `faiss_ivf_pq`). `auto` is numpy up to 20,000 examples, then FAISS if it is installed.
        read_only: Share the file with other readers. The store does not change as long as a reader has it open.

    Attributes:
        path: The file, or None.

    Raises:
        InputError: The path's folder does not exist, or `encoder` is not an encoder.
        ConfigError: Another encoder filled the store, or there is no such backend.
        DataError: The store is open elsewhere, broken, of another format, or no store.
        BackendError: The encoder's vectors cannot be used.
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
            _clear_leftovers(self.path)  # while nobody else has the store
        self._closing = weakref.finalize(self, self._index.close)

    def _adopt(self, mine: Identity) -> int:
        """Compare the encoder with the one that filled the store, or enter it into a new one; returns its dim."""
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
        """Read all examples, in the order in which their texts were written.

        Yields:
            The examples. One that is updated meanwhile may come twice.
        """
        for page in self._records.pages():
            yield from page.values()

    def get(self, name: str) -> Stored:
        """Look an example up.

        Args:
            name: Its id.

        Returns:
            The example with its metadata.

        Raises:
            InputError: It is not in the store.
        """
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
            query: A text, or FloatArray [dim] of this store's encoder, of any length but zero.
            k: How many to find at most.
            min_similarity: The least cosine, in [-1, 1].
            where: Only examples whose metadata have these keys with equal values, or for which this function, told
                their metadata, returns True. If `k` examples fit, `k` are found; with a filter that few examples pass
                the search has to look at all of them.
            exclude_ids: Examples to leave out.
            exclude_text: Leave out examples with this text, whatever their case and white space: the query's own, when
                it was judged before and the judgement must not leak.

        Returns:
            The examples, most similar first; ties by id.

        Raises:
            InputError: An argument of the wrong type or out of range.
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
        """Find the examples for several queries; quicker than one by one.

        Args:
            queries: Texts, or FloatArray [num_queries, dim].
            k: See `search`; so are the others.
            min_similarity: The least cosine.
            where: Filter on metadata.
            exclude_ids: Examples to leave out.
            exclude_texts: One text a query, or None for none.

        Returns:
            What `search` returns, query by query.

        Raises:
            InputError: An argument of the wrong type or out of range.
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
        """See `ExampleSource.find_examples`; ties are ordered by id."""
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
        """Put examples in; all of them or, if anything is wrong, none.

        Args:
            examples: What `Example.of` reads.
            ids: Their names, none of which may be in the store; None names them in ascending order.
            metadata: JSON values to filter by, one mapping an example; None for none.

        Returns:
            The ids.

        Raises:
            InputError: An argument of the wrong type, or an id that is there already or comes twice.
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
        """Replace examples; all of them or, if anything is wrong, none.

        Args:
            ids: Names of examples in the store.
            examples: What takes their place. Only texts that differ are embedded.
            metadata: What takes the place of their metadata; None keeps it.

        Raises:
            InputError: An argument of the wrong type, or an id that is not there or comes twice.
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
        """Put an example in or, if its text was judged before, join the two. See `FeedbackSource`.

        Args:
            example: What `Example.of` reads.
            id: Its name, which an earlier example of the same text may have. None names it after its text.
            metadata: JSON values to filter by; they replace earlier ones under the same keys.

        Returns:
            The id.

        Raises:
            InputError: An argument of the wrong type, or an id that belongs to another text.
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
        """Take examples out.

        Args:
            ids: Their names; those that are not there are passed over.

        Returns:
            How many were there.

        Raises:
            InputError: Not a list of strings.
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
        """Write the index' file, so that opening the store is quick even if this process is killed.

        Closing the store does so too; nothing but time depends on it. An index that is quick to build is never written.

        Raises:
            InputError: The store is read only or closed.
        """
        self._index.changing(self._index.save)

    def close(self) -> None:
        """Write the index and give up the file; a second call does nothing."""
        self._closing()

    @property
    def is_closed(self) -> bool:
        """Whether the file was given up."""
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
        """Copy the store to another file, which can be opened as a store. Not the index, which is built from it.

        Copying an open store's file by other means can give half of a change.

        Args:
            path: A file that does not exist.

        Raises:
            InputError: It exists.
        """
        self._records.backup(checked_path("path", path))

    @classmethod
    def reencode(cls, path: str | Path, encoder: StoreEncoder | None = None) -> int:
        """Embed all examples of a store anew, with another encoder. A kill leaves the store as it was.

        Args:
            path: The file of the store; nobody may have it open.
            encoder: The new encoder; None for the bundled model's backbone.

        Returns:
            How many examples it holds.

        Raises:
            InputError: `encoder` is not an encoder.
            DataError: There is no such store, or it is open.
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
    """Remove what killed processes left of files that they were writing."""
    partials = path.parent.glob(f"{glob.escape(_index_path(path).name)}.*partial")
    renewed = _renewed_path(path)
    for leftover in (*partials, renewed, renewed.with_name(f"{renewed.name}-journal")):
        with suppress(OSError):
            leftover.unlink(missing_ok=True)


def _renewed_path(path: Path) -> Path:
    """Where a store is while it is embedded anew: a name that nobody gives to a store of their own."""
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
