"""Forms: how a record becomes a query or a passage. The same record in the same form is always the same text."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from gliclass_rerank.learn.data.lists.sources import Item
from gliclass_rerank.learn.data.passage_pool import cut_words
from gliclass_rerank.learn.training.augment import changed_query
from gliclass_rerank.learn.training.config import AugmentConfig

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
    """The forms; packed files hold these numbers, so that none may change its meaning."""

    PASSAGE = 0
    """Title and text, cut."""
    LONG = 1
    """Title and text, cut later."""
    BODY = 2
    """The text alone, cut."""
    REST = 3
    """What follows the words of `BEGINNING`, cut."""
    QUESTION = 4
    """The text alone, whole."""
    KEYWORDS = 5
    """A question without stop words, in lower case."""
    REWORDED = 6
    """A question in other words."""
    TITLE = 7
    """The title alone."""
    BEGINNING = 8
    """The first words of the text."""
    JOINED = 9
    """This question and the next two in a row."""

    def __str__(self) -> str:
        """The number, also before Python 3.11: draws are seeded with it."""
        return str(int(self))


class TextRef(NamedTuple):
    """A text's name.

    Attributes:
        source: The file.
        number: Of the record in it.
        form: What is made of the record.
        is_query: Whether it is asked, not found; some encoders read the two differently.
    """

    source: str
    number: int
    form: Form
    is_query: bool


def text_of(ref: TextRef, items: Sequence[Item]) -> str:
    """Write a text.

    Args:
        ref: Its name.
        items: All records of its source.

    Returns:
        The text; empty if the record has none of this form.
    """
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
    """Say a query in other words: fewer of them, others before them, another order, or some left out.

    Args:
        query: The query.
        rng: Decides.

    Returns:
        The new query.
    """
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
    # Beginning and rest of a record must be cut at the same word, so that the draw leaves the form out.
    count = int(np.random.default_rng([_SEED, ref.number]).choice(_BEGINNING_WORDS))
    words = text.split()
    if len(words) < count + _LEAST_REST:
        return ""
    kept = words[:count] if ref.form is Form.BEGINNING else words[count : count + PASSAGE_WORDS]
    return " ".join(kept)


def _rng(ref: TextRef) -> np.random.Generator:
    return np.random.default_rng([_SEED, zlib.crc32(ref.source.encode()), ref.number, int(ref.form)])
