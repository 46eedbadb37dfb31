"""Prompt pieces: markers and stretches of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LABEL: Final = "<<LABEL>>"
SEP: Final = "<<SEP>>"
EXAMPLE: Final = "<<EXAMPLE>>"
END_EXAMPLE: Final = "<</EXAMPLE>>"
TRUE_LABEL: Final = "<<TRUE_LABEL>>"
FALSE_LABEL: Final = "<<FALSE_LABEL>>"

MARKERS: Final = (LABEL, SEP, EXAMPLE, END_EXAMPLE, TRUE_LABEL, FALSE_LABEL)


@dataclass(frozen=True)
class Marker:
    """Marker, one token if the tokenizer has it, else its characters.

    Attributes:
        name: One of `MARKERS`.
    """

    name: str


@dataclass(frozen=True)
class Text:
    """Stretch of text.

    Attributes:
        text: Characters.
        is_truncatable: The end may be cut to make room.
        is_ours: Written by the library; a caller's text cannot spell out markers.
    """

    text: str
    is_truncatable: bool = False
    is_ours: bool = False


Piece = Marker | Text
