"""Sentences of a text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gliclass_rerank.types import Extent

# After the end of a line, or of a sentence with its closing quote or bracket; in Chinese and Japanese without a space.
_END: Final = re.compile(r"\n\s*|(?<=[.!?\u2026])\s+|(?<=[.!?\u2026][\"')\]\u201d\u2019])\s+|(?<=[\u3002\uff01\uff1f])")
_LONGEST: Final = 600


def sentences(text: str) -> list[Extent]:
    """Split a text into sentences.

    Args:
        text: Any string.

    Returns:
        Characters of each sentence, ascending, at most 600 of them; only white space is in none.
    """
    return [piece for start, end in _stretches(text) for piece in _pieces(text, start, end)]


def _stretches(text: str) -> Iterator[Extent]:
    start = 0
    for found in _END.finditer(text):
        yield start, found.end()
        start = found.end()
    yield start, len(text)


def _pieces(text: str, start: int, end: int) -> Iterator[Extent]:
    """Parts of what is longer than a sentence should be, split between words if it has any; stripped."""
    while start < end:
        if text[start].isspace():
            start += 1
            continue
        stop = end if end - start <= _LONGEST else _word_end(text, start)
        yield start, start + len(text[start:stop].rstrip())
        start = stop


def _word_end(text: str, start: int) -> int:
    """Last place between words within the limit, else the limit."""
    limit = start + _LONGEST
    return next((place for place in range(limit, start, -1) if text[place].isspace()), limit)
