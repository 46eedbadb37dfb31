"""Checks of arguments to a store's methods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gliclass_rerank.checks import checked_list, checked_texts, is_a, reading
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.examples.encoders import LocalEncoder, StoreEncoder, encode_checked
from gliclass_rerank.examples.index import FloatArray
from gliclass_rerank.examples.rows import metadata_text


def checked_encoder(encoder: StoreEncoder | None) -> StoreEncoder:
    """Validate an encoder; None for the bundled model's backbone."""
    if encoder is None:
        return LocalEncoder()
    with reading("`encoder`"):
        fingerprint = getattr(encoder, "fingerprint", None)
        has_encode = callable(getattr(encoder, "encode", None))
    if not has_encode or not is_a(fingerprint, str) or not fingerprint or is_a(encoder, type):
        raise InputError(
            "`encoder` must have `encode` and a `fingerprint`; make one with `CallableEncoder`, "
            f"`SentenceTransformerEncoder` or `LocalEncoder`, got {shown(encoder)}"
        )
    return encoder


def checked_ids(ids: object, count: int) -> list[str]:
    """Validate one distinct id for each of `count` examples."""
    names = checked_texts("ids", ids)
    if len(names) != count:
        raise InputError(f"`ids` must name every example, got {len(names)} for {count} examples")
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name:
            raise InputError(f"`ids[{position}]` must not be empty")
        if name in seen:
            raise InputError(f"`ids[{position}]` comes twice, got {shown(name)}")
        seen.add(name)
    return list(names)


def metadata_texts(metadata: object, count: int) -> list[str]:
    """Serialise the metadata of `count` examples to JSON; None for none."""
    if metadata is None:
        return ["{}"] * count
    entries = checked_list("metadata", metadata, "mappings")
    if len(entries) != count:
        raise InputError(f"`metadata` must have one entry an example, got {len(entries)} for {count} examples")
    return [metadata_text(f"`metadata[{position}]`", entry) for position, entry in enumerate(entries)]


def query_vectors(encoder: StoreEncoder, dim: int, queries: Sequence[str] | FloatArray) -> FloatArray:
    """Embed queries, or scale given vectors to unit length.

    Args:
        encoder: Encoder of texts.
        dim: Dimension of the vectors.
        queries: Texts, or FloatArray [num_queries, dim].

    Returns:
        FloatArray [num_queries, dim].

    Raises:
        InputError: Vectors of another shape or type, zero or not finite.
        BackendError: The encoder failed.
    """
    if not isinstance(queries, np.ndarray):
        return encode_checked(encoder, queries, dim=dim)
    if queries.ndim != 2 or queries.shape[1] != dim or queries.dtype.kind not in "fiu":
        raise InputError(
            f"vectors of queries must be numbers of the shape [num_queries, {dim}], got {queries.dtype} "
            f"{list(queries.shape)}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise InputError("vectors of queries must be finite and not zero")
    scaled: FloatArray = (queries.astype(np.float64) / lengths).astype(np.float32)
    return scaled
