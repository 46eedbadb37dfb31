"""Comparison of an encoder with the one that filled a store."""

from __future__ import annotations

from typing import Final

import numpy as np

from gliclass_rerank.checks import named
from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.examples.encoders import FOLDER, StoreEncoder, encode_checked
from gliclass_rerank.examples.records import Records
from gliclass_rerank.examples.rows import Identity

_PROBE: Final = "How do judged examples of earlier queries help to rank passages?"
# Cosine of the same model on another machine or in half precision; other models stay below.
_SAME_MODEL: Final = 0.999
# Examples to embed again if a model's folder has changed.
_NUM_COMPARED: Final = 8


def identity_of(encoder: StoreEncoder) -> Identity:
    """Embed the probe; a `BackendError` if the encoder fails."""
    return Identity(encoder.fingerprint, encode_checked(encoder, [_PROBE])[0])


def require_same(records: Records, filled_by: Identity, encoder: StoreEncoder, mine: Identity) -> None:
    """Check that an encoder embeds as the one that filled a store.

    A model's folder may change without its embeddings, such as by a new calibration; then the longest examples decide.

    Args:
        records: Records of the store.
        filled_by: Identity in the store.
        encoder: Encoder.
        mine: Its identity.

    Raises:
        ConfigError: It is another encoder.
        BackendError: The encoder failed.
    """
    store = named(records.database.path)
    remedy = "open it with that one, or let `ExampleStore.reencode` embed it anew"
    likeness = float(filled_by.probe @ mine.probe) if filled_by.dim == mine.dim else 0.0
    may_be_same = likeness >= _SAME_MODEL and filled_by.encoder.startswith(FOLDER) and mine.encoder.startswith(FOLDER)
    if filled_by.encoder != mine.encoder and not (may_be_same and _embeds_alike(records, encoder, mine.dim)):
        raise ConfigError(
            f"the store `{store}` was filled by the encoder {shown(filled_by.encoder)}, "
            f"not by {shown(mine.encoder)}; {remedy}"
        )
    if filled_by.dim != mine.dim:
        raise ConfigError(
            f"the store `{store}` holds vectors of {filled_by.dim} numbers, the encoder gives {mine.dim}; {remedy}"
        )
    if likeness < _SAME_MODEL and np.any(filled_by.probe):
        raise ConfigError(
            f"the encoder {shown(mine.encoder)} has changed since it filled the store `{store}`: "
            f"its vectors of the same text have a cosine of {likeness:.3f}; {remedy}"
        )


def _embeds_alike(records: Records, encoder: StoreEncoder, dim: int) -> bool:
    stored = records.longest(_NUM_COMPARED)
    rows, before = records.vectors(np.array(sorted(stored), dtype=np.int64))
    vectors = encode_checked(encoder, [stored[row].example.text for row in rows.tolist()], dim=dim)
    # Of unit vectors with that cosine; zero vectors are equal.
    return bool(np.all(np.linalg.norm(before - vectors, axis=1) ** 2 <= 2 * (1 - _SAME_MODEL)))
