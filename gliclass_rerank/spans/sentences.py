"""Sentences of a text, by a rule that cuts too little rather than too much.

A rule of our own, because libraries for this either panic on odd Unicode or are no longer kept
(docs/decisions/0046-spans.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gliclass_rerank.types import Extent

# Longer stretches without an end of a sentence are tables, code or lists of words.
_LONGEST: Final = 600
_CLOSING: Final = "\"')]}\u201d\u2019\u00bb"
# Marks of Chinese, Japanese, Hindi, Arabic, Urdu, Armenian, Amharic, Burmese and Khmer, which need no space.
_UNSPACED: Final = "\u3002\uff01\uff1f\uff0e\u0964\u061f\u06d4\u0589\u1362\u104b\u17d4"
_BORDER: Final = re.compile(rf"(?<=[.!?\u2026{re.escape(_CLOSING)}])\s+|\n\s*|(?<=[{_UNSPACED}])\s*")
# An end with closing quotes, brackets and footnotes, of which a text may have any number: four are enough.
_END: Final = re.compile(rf"(?:[!?\u2026]|\.(?P<close>))[{re.escape(_CLOSING)}]{{0,4}}(?:\[\d{{1,3}}\]){{0,4}}\Z")
_MOST_AFTER_END: Final = 25
_LAST_WORD: Final = re.compile(r"[^\W\d_](?:[\w.]*[^\W\d_])?\Z")
_LONGEST_ABBREVIATION: Final = 8
# Number of an item at the beginning of a line.
_ITEM: Final = re.compile(r"(?:\A|\n)[ \t]*(?:\d{1,3}|[A-Za-z])\Z")
_LONGEST_ITEM: Final = 12
# Abbreviations, each between blanks. Before a name, and so never at an end:
_BEFORE_NAME: Final = (
    " mr mrs ms dr prof st mt gen col sgt capt lt cmdr rev hon gov sen rep pres messrs vs cf e.g i.e eg ie incl viz "
    "dept univ u.s u.k u.n e.u z.b d.h bzw mme mlle sra dra "
)
_BEFORE_NUMBER: Final = " no nos nr vol vols p pp c ca approx resp fig figs eq eqs sec ch art "
# At an end or not, as the next word tells.
_PERHAPS: Final = (
    " etc inc ltd corp co jr sr al a.m p.m ph.d b.c a.d d.c jan feb mar apr jun jul aug sep sept oct nov dec ed eds "
    "est ave blvd usw "
)


def sentences(text: str) -> list[Extent]:
    """Split a text into sentences.

    Args:
        text: Any string.

    Returns:
        Characters of each sentence, ascending, at most 600 of them; only white space is in none.
    """
    borders = [found.end() for found in _BORDER.finditer(text) if _is_end(text, found.start(), found.end())]
    starts = [0, *borders]
    return [
        piece for start, end in zip(starts, [*borders, len(text)], strict=True) for piece in _pieces(text, start, end)
    ]


def _is_end(text: str, place: int, following: int) -> bool:
    """Test whether a sentence ends before white space."""
    gap = text[place:following]
    if text[place - 1 : place] in _UNSPACED or gap.count("\n") > 1:
        return True
    found = _END.search(text, max(0, place - _MOST_AFTER_END), place)
    if found is None:  # a line that goes on in lower case was wrapped
        return "\n" in gap and not text[following : following + 1].islower()
    is_plain_dot = found.end("close") == place
    return not is_plain_dot or not _is_abbreviation(text, place - 1, text[following : following + 1])


def _is_abbreviation(text: str, dot: int, following: str) -> bool:
    """Test whether a dot belongs to the word before it, given the character that follows."""
    if _ITEM.search(text, max(0, dot - _LONGEST_ITEM), dot):
        return True
    word = _LAST_WORD.search(text, max(0, dot - _LONGEST_ABBREVIATION), dot)
    if word is None:
        return False
    name = f" {word[0].lower()} "
    return (
        name in _BEFORE_NAME
        or (len(word[0]) == 1 and word[0].isupper())
        or (name in _BEFORE_NUMBER and following.isdigit())
        or (name in _PERHAPS and following.islower())
    )


def _pieces(text: str, start: int, end: int) -> Iterator[Extent]:
    """Stripped parts of what is longer than a sentence should be, split between words if it has any."""
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
