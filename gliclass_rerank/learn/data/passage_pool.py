"""Passage pool: the joined corpora of several collections, each text once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.learn.data.records import checked_unicode
from gliclass_rerank.learn.evaluation.files import existing, read_jsonl
from gliclass_rerank.learn.evaluation.passages import passage_text

_WORD: Final = re.compile(r"\S+")


@dataclass(frozen=True)
class Pool:
    """Distinct passages by `text_identity` after truncation.

    Attributes:
        texts: Passages.
        ids: `<collection>/<document id>` of the first document with each text.
        index_of: Position in `texts` by document; documents without words are absent.
        num_documents: Documents read.
    """

    texts: tuple[str, ...]
    ids: tuple[str, ...]
    index_of: Mapping[str, int]
    num_documents: int


def load_pool(folders: Sequence[Path], *, max_words: int | None, titles: bool = True) -> Pool:
    """Read the corpora of collections in the `rerank/` format.

    Args:
        folders: Collections with a `corpus.jsonl`, perhaps gzipped.
        max_words: Maximum words per passage, title included; None for no limit.
        titles: Prepend titles.

    Returns:
        The pool, passages in file order.

    Raises:
        InputError: Two folders share a name, the prefix of their documents' ids.
        DataError: A file is missing or malformed, an id repeats, or there is no passage.
    """
    texts: list[str] = []
    ids: list[str] = []
    index_of: dict[str, int] = {}
    seen: dict[str, int] = {}
    documents = 0
    for name, folder in named(folders).items():
        known: set[str] = set()
        for record in read_jsonl(required(folder, "corpus.jsonl")):
            doc_id = record.id
            if doc_id in known:
                raise DataError(f"{record.place}: a second entry with the id `{doc_id}`")
            known.add(doc_id)
            documents += 1
            full = passage_text(record) if titles else record.string("text")
            text = cut_words(checked_unicode(record.place, full).strip(), max_words)
            if not text:
                continue
            position = seen.setdefault(text_identity(text), len(texts))
            if position == len(texts):
                texts.append(text)
                ids.append(f"{name}/{doc_id}")
            index_of[f"{name}/{doc_id}"] = position
    if not texts:
        raise DataError(f"{', '.join(map(str, folders)) or 'no collection'}: there are no passages to search")
    return Pool(tuple(texts), tuple(ids), index_of, documents)


def cut_words(text: str, max_words: int | None) -> str:
    """Truncate a text to `max_words` words (None for all), keeping its spacing and line ends."""
    if max_words is None:
        return text
    last = next(islice(_WORD.finditer(text), max_words - 1, None), None)
    return text if last is None else text[: last.end()]


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """Collections by folder name.

    Args:
        folders: Folders, possibly repeated.

    Returns:
        The folders in order.

    Raises:
        InputError: Different folders share a name.
        DataError: A folder does not exist.
    """
    collections: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        name = folder.resolve().name
        if collections.setdefault(name, folder).resolve() != folder.resolve():
            raise InputError(
                f"collections must differ in name, got {shown(str(collections[name]))} and {shown(str(folder))}"
            )
    return collections


def required(folder: Path, name: str) -> Path:
    """Find a collection's file, plain or gzipped; a `DataError` if it is missing."""
    path = existing(folder / name)
    if path is None:
        raise DataError(f"{folder / name}: no such file, plain or .gz")
    return path
