"""Unlabelled texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gliclass_rerank.checks import checked_text
from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.learn.evaluation.files import GZIP_SUFFIX, read_jsonl, read_lines

_SUFFIXES: Final = (".jsonl", ".txt")


def read_texts(path: Path) -> Iterator[str]:
    """Read the texts of a file.

    Args:
        path: `.txt` with one text per line, or `.jsonl` with `text`; perhaps gzipped (`.gz`).

    Yields:
        Texts in file order; blank lines of a `.txt` are skipped.

    Raises:
        DataError: The file is of another kind, unreadable or malformed.
    """
    suffix = Path(path.name.removesuffix(GZIP_SUFFIX)).suffix
    if suffix == ".txt":
        for _, line in read_lines(path):
            yield line.strip()
    elif suffix == ".jsonl":
        for record in read_jsonl(path):
            try:
                text = checked_text("`text`", record.string("text"))
            except InputError as error:
                raise DataError(f"{record.place}: {error}") from None
            if not text.strip():
                raise DataError(f"{record.place}: `text` must not be blank, got {shown(text)}")
            yield text
    else:
        raise DataError(f"{path}: the name of a file of texts must end in {', '.join(_SUFFIXES)}, perhaps with .gz")
