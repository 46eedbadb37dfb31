"""Growing file of text vectors: float16 rows.

The file's size tells how far a killed run came. Chunks always hold the same texts, because an int8 model's vectors
depend slightly on the batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.learn.data.progress import Progress, silent
from gliclass_rerank.text_models.interfaces import Role, TextEncoder

CHUNK: Final = 512
_BYTES: Final = 2


def grow_vectors(
    path: Path,
    texts: Sequence[str],
    is_query: Sequence[bool] | NDArray[np.uint8],
    encoder: TextEncoder,
    *,
    wanted: NDArray[np.bool_] | None = None,
    num_texts: int | None = None,
    progress: Progress = silent,
) -> None:
    """Extend a file by missing vectors.

    Args:
        path: Vector file; created if missing.
        texts: All texts, in row order.
        is_query: Texts to embed as queries.
        encoder: Text encoder.
        wanted: BoolArray [num_texts]. Texts to embed, others get zeros; None for all. Always the same for one file.
        num_texts: Maximum number of rows; None for all.
        progress: Progress of texts embedded.

    Raises:
        BackendError: The encoder failed.
    """
    width = width_of(encoder)
    done = _num_rows(path, width)
    if done < len(texts):
        done = done // CHUNK * CHUNK
    with path.open("ab") as file, progress("texts", len(texts), done) as advance:
        file.truncate(done * width * _BYTES)
        for start in range(done, min(len(texts), len(texts) if num_texts is None else num_texts), CHUNK):
            chunk = slice(start, min(start + CHUNK, len(texts)))
            rows = np.flatnonzero(np.ones(chunk.stop - start, dtype=bool) if wanted is None else wanted[chunk])
            vectors = np.zeros((chunk.stop - start, width), dtype=np.float16)
            if len(rows):
                vectors[rows] = _embedded(
                    [texts[start + row] for row in rows.tolist()],
                    np.asarray(is_query[chunk], dtype=bool)[rows],
                    encoder,
                )
            file.write(vectors.tobytes())
            file.flush()
            advance(chunk.stop - chunk.start)
        os.fsync(file.fileno())


def read_vectors(path: Path, width: int) -> NDArray[np.float16]:
    """Memory-map the available vectors, Float16Array [num_rows, width]; the file may be missing or growing."""
    rows = _num_rows(path, width)
    if rows == 0:
        return np.zeros((0, width), dtype=np.float16)
    return np.memmap(path, dtype=np.float16, mode="r", shape=(rows, width))


def width_of(encoder: TextEncoder) -> int:
    """Dimension of an encoder's vectors."""
    return int(encoder.encode(["width"], "query").vectors.shape[1])


def _num_rows(path: Path, width: int) -> int:
    return path.stat().st_size // (width * _BYTES) if path.is_file() else 0


def _embedded(texts: Sequence[str], is_query: NDArray[np.bool_], encoder: TextEncoder) -> NDArray[np.float16]:
    vectors = np.zeros((len(texts), width_of(encoder)), dtype=np.float16)
    by_role: list[tuple[Role, NDArray[np.intp]]] = [
        ("query", np.flatnonzero(is_query)),
        ("passage", np.flatnonzero(~is_query)),
    ]
    for role, rows in by_role:
        if len(rows):
            vectors[rows] = encoder.encode([texts[row] for row in rows.tolist()], role).vectors
    return vectors
