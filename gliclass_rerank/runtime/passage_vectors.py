"""Vectors of passages that see no query: the mean of the backbone's last states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.model.batch import length_groups
from gliclass_rerank.runtime.executor import Network
from gliclass_rerank.types import TokenIds


def passage_vectors(rows: Sequence[TokenIds], network: Network, batch_tokens: int) -> NDArray[np.float32]:
    """Compute the vectors of passages.

    Args:
        rows: Token ids of the passages, at least one token each.
        network: Forward passes.
        batch_tokens: Budget of a forward pass in tokens, padding included.

    Returns:
        FloatArray [num_rows, hidden], of unit length.

    Raises:
        BackendError: The forward pass failed.
    """
    found: dict[int, NDArray[np.float32]] = {}
    for group in length_groups({index: len(ids) for index, ids in enumerate(rows)}, batch_tokens):
        vectors = network.passage_vectors([rows[index] for index in group])
        found.update(zip(group, vectors, strict=True))
    vectors = np.stack([found[index] for index in range(len(rows))])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return vectors
