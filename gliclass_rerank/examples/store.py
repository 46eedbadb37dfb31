"""Store of judged examples, retrieved by the similarity of their texts.

This module checks arguments; `stored_examples.py` reads, `editing.py` writes. `records.py` holds the data,
`cached_index.py` its index, and `search.py` combines both.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from gliclass_rerank.checks import checked_path, checked_text, checked_texts
from gliclass_rerank.errors import InputError
from gliclass_rerank.examples.backends import Backend, builder_of
from gliclass_rerank.examples.cached_index import CachedIndex
from gliclass_rerank.examples.editing import Editor
from gliclass_rerank.examples.encoder_identity import identity_of, require_same
from gliclass_rerank.examples.encoders import StoreEncoder
from gliclass_rerank.examples.filters import Metadata
from gliclass_rerank.examples.judgements import text_id
from gliclass_rerank.examples.records import Records
from gliclass_rerank.examples.reencoding import reencode_store
from gliclass_rerank.examples.rows import metadata_text
from gliclass_rerank.examples.store_checks import checked_encoder, checked_ids, metadata_texts
from gliclass_rerank.examples.store_files import clear_leftovers, index_path
from gliclass_rerank.examples.stored_examples import StoredExamples
from gliclass_rerank.types import Example


class ExampleStore(StoredExamples):
    """Store of judged examples, searched by text similarity; thread-safe, a context manager.

    Writes are durable when a method returns. Any number of processes may open a store, read it and write to it; each
    sees what the others wrote at its next search. An unreferenced store closes itself.

    Args:
        path: Store file, created if missing, with its index beside it under `.index`; None for memory.
        encoder: Text encoder; None for the bundled model's backbone. A store opens only with the encoder that filled
            it; change it with `reencode`.
        backend: `numpy` (exact), `faiss` (kind chosen by size), one kind of it (`faiss_flat`, `faiss_hnsw`,
            `faiss_ivf_pq`), or `auto`: numpy up to 20,000 examples, then FAISS if installed.
        read_only: Change nothing.

    Attributes:
        path: Store file, or None.

    Raises:
        InputError: The path's folder does not exist, or `encoder` is not an encoder.
        ConfigError: Another encoder filled the store, or the backend is unknown.
        DataError: The store is damaged, of another format, not a store, or locked by another program.
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
        encoder = checked_encoder(encoder)
        mine = identity_of(encoder)
        records = Records(self.path, read_only=read_only)
        try:
            require_same(records, records.adopt(mine), encoder, mine)
            place = None if self.path is None else index_path(self.path)
            index = CachedIndex(records, builder, path=place, read_only=read_only)
        except BaseException:
            records.close()
            raise
        if self.path is not None and not read_only:
            clear_leftovers(self.path)
        super().__init__(encoder, mine.dim, records, index)
        self._editor = Editor(encoder, mine.dim, records, index)
        self._closing = weakref.finalize(self, index.close)

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
        names = None if ids is None else checked_ids(ids, len(read))
        return self._editor.add(read, names, metadata_texts(metadata, len(read)))

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
        names = checked_ids(ids, len(read))
        texts = metadata_texts(metadata, len(read))
        is_given = [metadata is not None and entry is not None for entry in metadata or [None] * len(read)]
        self._editor.update(names, read, [text if given else None for text, given in zip(texts, is_given, strict=True)])

    def add_judgements(
        self,
        example: Example | Mapping[str, Any],
        *,
        id: str | None = None,
        metadata: Metadata | None = None,
        where: Metadata | None = None,
    ) -> str:
        """Add an example, merged with earlier judgements of its text: the newest judgement of a label wins.

        Args:
            example: Example, or mapping that `Example.of` reads.
            id: Id, possibly of an earlier example of the same text; None derives it from the text.
            metadata: JSON values to filter by; they replace earlier ones under the same keys.
            where: JSON values that become metadata too, and keep these judgements apart from all others of the text.

        Returns:
            The id.

        Raises:
            InputError: An argument has the wrong type, or the id belongs to another text or to other values of `where`.
            BackendError: The encoder failed.
            DataError: The store cannot be written.
        """
        new = Example.of(example)
        scope = metadata_text("`where`", where)
        name = text_id(new.text, scope) if id is None else checked_text("`id`", id)
        if not name:
            raise InputError("`id` must not be empty")
        self._editor.add_judgements(name, new, metadata_text("`metadata`", metadata), scope)
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
        return self._editor.delete(checked_texts("ids", ids))

    # The file

    def save_index(self) -> None:
        """Write the index file, which speeds up opening after a kill; closing writes it too.

        Raises:
            InputError: The store is read-only or closed.
        """
        self._index.save()

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
        return self

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
        self._records.database.backup(checked_path("path", path))

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
        checked = checked_encoder(encoder)
        return reencode_store(checked_path("path", path).absolute(), checked, identity_of(checked))
