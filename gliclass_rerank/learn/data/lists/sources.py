"""Data folder as numbered records.

```
<data>/rerank/train/<name>/{corpus,queries}.jsonl    sources `<name>/corpus` and `<name>/queries`
<data>/queries/<name>.tsv                            source `<name>`: first column
<data>/classify/train/<name>/train.jsonl             source `<name>`: texts
```

Each may be gzipped. A record's number is its position among the non-blank lines.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import existing, read_jsonl, read_lines

_DIGEST_BYTES: Final = 8
_NAME: Final = re.compile(r"\w[\w.-]*(/(corpus|queries))?")


class Item(NamedTuple):
    """Record of a source.

    Attributes:
        id: Id in the file; empty if there is none.
        title: Title; empty if there is none.
        text: Text in the file.
    """

    id: str
    title: str
    text: str


class Sources:
    """Records of a data folder, each file read once.

    Args:
        data: Data folder.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self._known: dict[str, list[Item]] = {}

    def __getitem__(self, name: str) -> list[Item]:
        """All records of a source in file order, cached; a `DataError` if it is missing or malformed."""
        if name not in self._known:
            self._known[name] = read_items(self.data, name)
        return self._known[name]

    def __contains__(self, name: str) -> bool:
        return name in self._known or _file(self.data, name) is not None


def read_items(data: Path, name: str) -> list[Item]:
    """Read one source in file order; a `DataError` if it is missing or malformed."""
    path = _file(data, name)
    if path is None:
        raise DataError(f"{data}: no source {name[:80]!r}, neither a collection nor a file of questions or texts")
    return list(_items(path))


def source_digest(items: list[Item]) -> str:
    """Short digest of a source's records, which detects changed numbering."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for item in items:
        digest.update("\0".join(item).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _file(data: Path, name: str) -> Path | None:
    if not _NAME.fullmatch(name):  # names come from packed files too: none may leave the data folder
        return None
    collection, _, part = name.partition("/")
    if part:
        return existing(data / "rerank" / "train" / collection / f"{part}.jsonl")
    return existing(data / "queries" / f"{name}.tsv") or existing(data / "classify" / "train" / name / "train.jsonl")


def _items(path: Path) -> Iterator[Item]:
    if ".tsv" in path.suffixes:
        for _, line in read_lines(path):
            yield Item("", "", line.partition("\t")[0].strip())
        return
    for record in read_jsonl(path):
        yield Item(record.string("id", ""), record.string("title", ""), record.string("text"))
