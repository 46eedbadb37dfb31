"""Forms: deterministic conversions of a record to a query or passage."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from gliclass_rerank.learn.data.lists.sources import Item
from gliclass_rerank.learn.data.passage_pool import cut_words
from gliclass_rerank.learn.training.augment import changed_query
from gliclass_rerank.learn.training.source_config import AugmentConfig

PASSAGE_WORDS: Final = 96
LONG_WORDS: Final = 192
JOINED_QUESTIONS: Final = 3
_BEGINNING_WORDS: Final = (12, 20, 30, 45)
_LEAST_REST: Final = 20
_SEED: Final = 77
_OPENINGS: Final = (
    "how do i", "can you tell me", "tell me", "please explain", "i want to know", "question about", "looking for",
    "help with", "does anyone know", "",
)  # fmt: skip


class Form(IntEnum):
    """Forms; packed files hold these numbers, so their meaning is fixed."""

    PASSAGE = 0
    """Title and text, truncated."""
    LONG = 1
    """Title and text, truncated later."""
    BODY = 2
    """Text alone, truncated."""
    REST = 3
    """Remainder after the words of `BEGINNING`, truncated."""
    QUESTION = 4
    """Whole text."""
    KEYWORDS = 5
    """Lower-case question without stop words."""
    REWORDED = 6
    """Reworded question."""
    TITLE = 7
    """Title."""
    BEGINNING = 8
    """First words of the text."""
    JOINED = 9
    """This question and the next two."""

    def __str__(self) -> str:
        """Number of the form, also before Python 3.11: draws are seeded with it."""
        return str(int(self))


class TextRef(NamedTuple):
    """Name of a text.

    Attributes:
        source: Source file.
        number: Record number.
        form: Form of the record.
        is_query: Query instead of passage, which some encoders distinguish.
    """

    source: str
    number: int
    form: Form
    is_query: bool


def text_of(ref: TextRef, items: Sequence[Item]) -> str:
    """Text of a name, given all records of its source; empty if the record lacks this form."""
    item = items[ref.number]
    match ref.form:
        case Form.PASSAGE | Form.LONG:
            words = PASSAGE_WORDS if ref.form is Form.PASSAGE else LONG_WORDS
            text = cut_words(f"{item.title} {item.text}".strip(), words)
        case Form.BODY:
            text = cut_words(item.text.strip(), PASSAGE_WORDS)
        case Form.TITLE:
            text = item.title.strip()
        case Form.BEGINNING | Form.REST:
            text = _parted(ref, item.text)
        case Form.JOINED:
            text = " ".join(other.text.strip() for other in items[ref.number : ref.number + JOINED_QUESTIONS])
        case Form.KEYWORDS:
            text = changed_query(item.text.strip(" ?."), AugmentConfig(drop_stop_words=1, lower_case=1), _rng(ref))
        case Form.REWORDED:
            text = reworded(item.text.strip(), _rng(ref))
        case Form.QUESTION:
            text = item.text.strip()
    return text


def reworded(query: str, rng: np.random.Generator) -> str:
    """Reword a query at random: fewer words, other introductions, another order, or omissions."""
    query = query.rstrip("?. ")
    words = query.split()
    way = rng.integers(5)
    if way == 0:
        query = changed_query(query, AugmentConfig(drop_stop_words=1), rng)
    elif way in {1, 2}:
        asked = changed_query(query, AugmentConfig(drop_question_words=1), rng)
        query = f"{_OPENINGS[rng.integers(len(_OPENINGS))]} {asked}".strip()
    elif len(words) > 4 and way == 3:
        query = " ".join(words[len(words) // 2 :] + words[: len(words) // 2])
    elif len(words) > 4:
        left_out = set(rng.choice(len(words), max(1, len(words) // 5), replace=False).tolist())
        query = " ".join(word for number, word in enumerate(words) if number not in left_out)
    return changed_query(query, AugmentConfig(lower_case=0.5), rng)


def _parted(ref: TextRef, text: str) -> str:
    # Beginning and rest of a record must be cut at the same word, so the seed excludes the form.
    count = int(np.random.default_rng([_SEED, ref.number]).choice(_BEGINNING_WORDS))
    words = text.split()
    if len(words) < count + _LEAST_REST:
        return ""
    kept = words[:count] if ref.form is Form.BEGINNING else words[count : count + PASSAGE_WORDS]
    return " ".join(kept)


def _rng(ref: TextRef) -> np.random.Generator:
    return np.random.default_rng([_SEED, zlib.crc32(ref.source.encode()), ref.number, int(ref.form)])
