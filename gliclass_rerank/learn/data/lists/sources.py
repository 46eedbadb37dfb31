"""Files of the data folder as numbered records.

```
<data>/rerank/train/<name>/{corpus,queries}.jsonl    the sources `<name>/corpus` and `<name>/queries`
<data>/queries/<name>.tsv                            the source `<name>`: the first column
<data>/classify/train/<name>/train.jsonl             the source `<name>`: the texts
```

Each may be gzipped. A record's number is its place among the lines that are not blank.
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
    """A record of a source.

    Attributes:
        id: As the file says; empty if it says nothing.
        title: Empty if there is none.
        text: As it stands in the file.
    """

    id: str
    title: str
    text: str


class Sources:
    """The records of a data folder, each file read once.

    Args:
        data: The folder.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self._known: dict[str, list[Item]] = {}

    def __getitem__(self, name: str) -> list[Item]:
        """All records of a source.

        Args:
            name: See the module.

        Returns:
            The records in file order; kept in memory.

        Raises:
            DataError: There is no such source, or a line is malformed.
        """
        if name not in self._known:
            self._known[name] = read_items(self.data, name)
        return self._known[name]

    def __contains__(self, name: str) -> bool:
        return name in self._known or _file(self.data, name) is not None


def read_items(data: Path, name: str) -> list[Item]:
    """Read one source.

    Args:
        data: The data folder.
        name: See the module.

    Returns:
        Its records in file order.

    Raises:
        DataError: There is no such source, or a line is malformed.
    """
    path = _file(data, name)
    if path is None:
        raise DataError(f"{data}: no source {name[:80]!r}, neither a collection nor a file of questions or texts")
    return list(_items(path))


def source_digest(items: list[Item]) -> str:
    """A short digest of a source's records, which tells whether numbers still mean the same."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for item in items:
        digest.update("\0".join(item).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _file(data: Path, name: str) -> Path | None:
    if not _NAME.fullmatch(name):  # names come from packed files too: none may lead out of the data folder
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
