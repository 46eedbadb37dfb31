"""Normalised key of a text, for deduplication and leak checks."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final

_DIGEST_BYTES: Final = 16


def text_identity(text: str) -> str:
    """Normalise case, white space and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digest(text: str) -> bytes:
    """16-byte digest of `text_identity`."""
    return hashlib.sha256(text_identity(text).encode()).digest()[:_DIGEST_BYTES]
