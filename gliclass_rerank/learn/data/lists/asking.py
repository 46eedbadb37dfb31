"""Queries of a block with their relevance judgments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gliclass_rerank.examples.text_identity import text_digest
from gliclass_rerank.learn.data.lists.forms import JOINED_QUESTIONS, Form, TextRef, text_of
from gliclass_rerank.learn.data.lists.judged import Grades, Judged, is_held_cluster, shard_of, stable_number
from gliclass_rerank.learn.data.lists.kinds import KINDS, NUM_BLOCKS, Kind, num_shards
from gliclass_rerank.learn.data.lists.leakage import forbidden_digests
from gliclass_rerank.learn.data.lists.sources import Sources

_POSITIVES: Final = 2
_SCALE: Final = 1 << 32


@dataclass(frozen=True)
class Asked:
    """Query of a list.

    Attributes:
        query: Name of the query's text.
        text: Query.
        grades: Grade by passage name.
        hidden: Passage the query was taken from, which its words would find.
    """

    query: TextRef
    text: str
    grades: Mapping[TextRef, int] = field(default_factory=dict)
    hidden: TextRef | None = None


class Corpus:
    """Usable part of a data folder.

    Args:
        sources: Records.
        forbidden: Digests of excluded texts.
    """

    def __init__(self, sources: Sources, forbidden: frozenset[bytes]) -> None:
        self.sources, self._forbidden = sources, forbidden
        self._judged: dict[str, Judged] = {}

    def forbid(self, digests: AbstractSet[bytes]) -> None:
        """Exclude texts by digest."""
        self._forbidden |= digests

    def judged(self, collection: str) -> Judged:
        """Judgments of a collection, read once."""
        return self._judged.setdefault(collection, Judged(collection, self.sources))

    def passages(self, source: str, form: Form, block: int) -> dict[TextRef, str]:
        """Passages of a source in a block, by name, in file order; empty if the data folder lacks the source."""
        if source not in self.sources:
            return {}
        collection, _, part = source.partition("/")
        items = self.sources[source]
        asked = self.judged(collection).train if part == "queries" else None
        held = self.judged(collection).held_documents if part == "corpus" else frozenset()
        found = {}
        for index, item in enumerate(items):
            if not in_block(collection, index, block) or index in held or (asked is not None and index not in asked):
                continue
            ref = TextRef(source, index, form, False)
            text = text_of(ref, items)
            if text and not self._is_forbidden(text, item.text):
                found[ref] = text
        return found

    def asked(self, kind: Kind, block: int) -> Iterator[Asked]:
        """Iterate over the queries of one kind in a block, whether or not their relevant passages are in it."""
        for name in kind.asked:
            if name.endswith("/corpus"):  # titles and beginnings
                yield from self._from_corpus(kind, name, block)
            elif f"{name}/corpus" in self.sources:
                yield from self._from_judgments(kind, name, block)
            elif name in self.sources:
                yield from self._from_file(kind, name, block)

    def _from_judgments(self, kind: Kind, name: str, block: int) -> Iterator[Asked]:
        judged = self.judged(name).train
        shards = num_shards(name)
        for query, grades in judged.items():
            relevant = [doc for doc, grade in grades.items() if grade > 0 and in_block(name, doc, block)]
            in_turn = stable_number("turn", name, query) % (NUM_BLOCKS // shards) == block // shards
            if not (relevant and in_turn and self._is_drawn(kind, name, query)):
                continue
            if kind.form is Form.JOINED and not _are_together(judged, query, relevant[0]):
                continue
            kept = {doc: grade for doc, grade in grades.items() if grade <= 0} | {
                doc: grades[doc] for doc in relevant[:_POSITIVES]
            }
            ref = TextRef(f"{name}/queries", query, kind.form, True)
            named = {TextRef(f"{name}/corpus", doc, kind.passage_form, False): grade for doc, grade in kept.items()}
            yield from self._checked(Asked(ref, "", named))

    def _from_corpus(self, kind: Kind, name: str, block: int) -> Iterator[Asked]:
        collection = name.partition("/")[0]
        shards = num_shards(collection)
        found = Form.REST if kind.form is Form.BEGINNING else kind.passage_form
        for ref in self.passages(name, kind.passage_form, block):
            in_turn = stable_number("turn", name, ref.number) % (NUM_BLOCKS // shards) == block // shards
            if in_turn and self._is_drawn(kind, name, ref.number):
                asked = TextRef(name, ref.number, kind.form, True)
                hidden = ref if found is Form.REST else None
                yield from self._checked(Asked(asked, "", {TextRef(name, ref.number, found, False): 1}, hidden))

    def _from_file(self, kind: Kind, name: str, block: int) -> Iterator[Asked]:
        for index in range(len(self.sources[name])):
            in_turn = stable_number("turn", name, index) % NUM_BLOCKS == block
            if in_turn and not is_held_cluster(name, index) and self._is_drawn(kind, name, index):
                yield from self._checked(Asked(TextRef(name, index, kind.form, True), ""))

    def _checked(self, asked: Asked) -> Iterator[Asked]:
        items = self.sources[asked.query.source]
        text = text_of(asked.query, items)
        if text and not self._is_forbidden(text, items[asked.query.number].text):
            yield Asked(asked.query, text, asked.grades, asked.hidden)

    def _is_forbidden(self, *texts: str) -> bool:
        return any(text_digest(text) in self._forbidden for text in texts)

    def _is_drawn(self, kind: Kind, name: str, index: int) -> bool:
        return stable_number("draw", kind.name, name, index) < kind.share * _SCALE


def open_corpus(data: Path) -> Corpus:
    """Open a data folder without texts of evaluation sets and held-out queries; a `DataError` if a file is invalid."""
    corpus = Corpus(Sources(data), forbidden_digests(data))
    names = sorted({name for kind in KINDS for name in kind.asked if f"{name}/corpus" in corpus.sources})
    held = {
        text_digest(corpus.sources[f"{name}/queries"][query].text)
        for name in names
        for query in corpus.judged(name).held
    }
    corpus.forbid(held)
    return corpus


def in_block(collection: str, index: int, block: int) -> bool:
    """Test for a record in a block."""
    return shard_of(collection, index) == block % num_shards(collection)


def _are_together(judged: Grades, query: int, document: int) -> bool:
    """Test if this query and the following ones concern the same passage."""
    return all(judged.get(query + step, {}).get(document, 0) > 0 for step in range(JOINED_QUESTIONS))
