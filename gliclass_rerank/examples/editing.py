"""Writing half of a store: adding, changing and deleting examples.

Texts are embedded before other writers are kept out, and once more only if the store has changed meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from gliclass_rerank.errors import InputError, listed, shown
from gliclass_rerank.examples.cached_index import CachedIndex
from gliclass_rerank.examples.changes import Change
from gliclass_rerank.examples.encoders import StoreEncoder, encode_checked
from gliclass_rerank.examples.index import FloatArray
from gliclass_rerank.examples.judgements import are_of_one_text, merged
from gliclass_rerank.examples.records import Records
from gliclass_rerank.examples.rows import NewRecord, metadata_text
from gliclass_rerank.types import Example


class Editor:
    """Writer of a store; arguments are checked by the caller.

    Args:
        encoder: Encoder of texts.
        dim: Dimension of its vectors.
        records: Records of the store.
        index: Index of the records.
    """

    def __init__(self, encoder: StoreEncoder, dim: int, records: Records, index: CachedIndex) -> None:
        self._encoder = encoder
        self._dim = dim
        self._records = records
        self._index = index

    def add(self, examples: Sequence[Example], names: Sequence[str] | None, metadata: Sequence[str]) -> list[str]:
        """Add examples with JSON metadata under new ids; None for ascending numbers."""
        ids = [None] * len(examples) if names is None else names
        new = [NewRecord(*each) for each in zip(ids, examples, metadata, strict=True)]
        if not new:
            return []
        self._index.require_writable()
        vectors = encode_checked(self._encoder, [example.text for example in examples], dim=self._dim)

        def write() -> list[str]:
            there = self._records.rows_of(names or ())
            if there:
                raise InputError(f"the store has {listed(there)} already; use `update` to change an example")
            return self._index.write(Change(added=new, vectors=vectors))

        return self._index.changing(write)

    def update(self, names: Sequence[str], examples: Sequence[Example], metadata: Sequence[str | None]) -> None:
        """Replace examples under existing ids; None keeps an example's metadata."""
        known: dict[str, FloatArray] = {}

        def planned() -> tuple[dict[int, NewRecord], dict[int, NewRecord]]:
            before = {old.id: (row, old) for row, old in self._records.find(names).items()}
            missing = set(names) - before.keys()
            if missing:
                raise InputError(f"the store has no {listed(missing)}; use `add` for new examples")
            moved: dict[int, NewRecord] = {}
            kept: dict[int, NewRecord] = {}
            for name, example, text in zip(names, examples, metadata, strict=True):
                row, old = before[name]
                record = NewRecord(name, example, metadata_text("metadata", old.metadata) if text is None else text)
                (kept if old.example.text == example.text else moved)[row] = record
            return moved, kept

        def write() -> None:
            moved, kept = planned()
            if moved or kept:
                vectors = self._vectors([new.example.text for new in moved.values()], known)
                self._index.write(Change(list(moved.values()), vectors, list(moved), kept))

        self._index.require_writable()
        self._vectors([new.example.text for new in planned()[0].values()], known)
        self._index.changing(write)

    def add_judgements(self, name: str, new: Example, metadata: str, scope: str = "{}") -> None:
        """Add an example with JSON metadata under an id, or merge it with the example of the same scope there."""
        known: dict[str, FloatArray] = {}
        required = json.loads(scope)
        values = {**json.loads(metadata), **required}

        def write() -> None:
            before = self._records.find([name])
            for row, old in before.items():
                if not are_of_one_text(old.example, new):
                    raise InputError(
                        f"the id {shown(name)} belongs to the example {shown(old.example.text)}, got {shown(new.text)}"
                    )
                if any(key not in old.metadata or old.metadata[key] != value for key, value in required.items()):
                    raise InputError(
                        f"the id {shown(name)} belongs to an example outside of `where`, {shown(required)}"
                    )
                joined = metadata_text("`metadata`", {**old.metadata, **values})
                self._index.write(Change(rewritten={row: NewRecord(name, merged(old.example, new), joined)}))
            if not before:
                vectors = self._vectors([new.text], known)
                self._index.write(Change([NewRecord(name, new, metadata_text("`metadata`", values))], vectors))

        self._index.require_writable()
        if not self._records.rows_of([name]):
            self._vectors([new.text], known)
        self._index.changing(write)

    def delete(self, names: Sequence[str]) -> int:
        """Delete examples; unknown ids are ignored. Returns how many were deleted."""

        def write() -> int:
            rows = self._records.rows_of(names)
            if rows:
                self._index.write(Change(removed=list(rows.values())))
            return len(rows)

        return self._index.changing(write)

    def _vectors(self, texts: Sequence[str], known: dict[str, FloatArray]) -> FloatArray:
        """Embed texts, FloatArray [num_texts, dim]; `known` remembers their vectors."""
        new = list(dict.fromkeys(text for text in texts if text not in known))
        known.update(zip(new, encode_checked(self._encoder, new, dim=self._dim), strict=True))
        return np.stack([known[text] for text in texts]) if texts else np.zeros((0, self._dim), dtype=np.float32)
