"""Texts with teachers' vectors, as `python -m gliclass_rerank.learn.data.lists texts` writes them.

```
texts.jsonl      {"text": ...}, one per line
<teacher>.npy    FloatArray [num_texts, width], rows in the same order
```
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import DataError, shown
from gliclass_rerank.learn.evaluation.files import existing
from gliclass_rerank.learn.training.record_file import RecordFile
from gliclass_rerank.learn.training.records import TextsRecord, text_record


class TextsFolder:
    """Runs of neighbouring texts by position; thread-safe.

    Neighbours are alike, being candidates of the same lists: telling them apart is what there is to learn.

    Args:
        folder: Folder of texts.
        teachers: Teachers whose vectors are read.
        size: Texts per record; a rest of fewer is left out, unless there are no others.

    Raises:
        DataError: A file is missing or malformed, or its rows are not those of the texts.
    """

    def __init__(self, folder: Path, teachers: Collection[str], size: int) -> None:
        path = existing(folder / "texts.jsonl")
        if path is None:
            raise DataError(f"{folder}: has no texts.jsonl, plain or .gz")
        self._folder, self._size = folder, size
        self._texts = RecordFile(path, text_record)
        self._vectors = {name: _vectors(folder, name, len(self._texts)) for name in sorted(teachers)}

    def __len__(self) -> int:
        return max(1, len(self._texts) // self._size)

    def __getitem__(self, index: int) -> TextsRecord:
        rows = range(index * self._size, min((index + 1) * self._size, len(self._texts)))
        return TextsRecord(
            f"{self._folder}, rows {rows.start} to {rows.stop - 1}",
            tuple(self._texts[row] for row in rows),
            {name: np.asarray(vectors[rows.start : rows.stop], np.float32) for name, vectors in self._vectors.items()},
        )


def _vectors(folder: Path, name: str, count: int) -> NDArray[np.floating]:
    path = folder / f"{name}.npy"
    if Path(name).name != name or not path.is_file():
        raise DataError(f"{folder}: has no vectors of the teacher {shown(name)}, a file `<teacher>.npy`")
    try:
        vectors: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {str(error)[:80]}") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != count:
        raise DataError(f"{path}: must hold a row of floats for each of the {count} texts, got {shown(vectors.shape)}")
    return vectors
