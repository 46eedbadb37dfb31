"""When two texts count as the same: one rule, wherever texts are counted once, joined or kept from each other."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final

_DIGEST_BYTES: Final = 16


def text_identity(text: str) -> str:
    """A text without what does not make it another one: case, white space, Unicode's ways of writing a letter."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digest(text: str) -> bytes:
    """16 bytes that texts with the same `text_identity` share."""
    return hashlib.sha256(text_identity(text).encode()).digest()[:_DIGEST_BYTES]
