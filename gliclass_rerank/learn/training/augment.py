"""Random augmentation of texts, driven by a generator.

Word lists are English, and words are separated by white space; languages without it stay unchanged.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gliclass_rerank.learn.training.source_config import AugmentConfig

_QUESTION_WORDS: Final = (
    "what which who whom whose when where why how is are was were do does did can could should would will"
)
_OTHER_STOP_WORDS: Final = (
    "a an the of in on at to for from by with about and or as that this these those it its i my me we our you your he "
    "she they their there be been being have has had if than then so not no"
)
QUESTION_WORDS: Final = frozenset(_QUESTION_WORDS.split())
STOP_WORDS: Final = QUESTION_WORDS | frozenset(_OTHER_STOP_WORDS.split())
_PUNCTUATION: Final = "?!.,;:\"'()[]"
_SHORTEST_CUT: Final = 1 / 3


def changed_query(query: str, settings: AugmentConfig, rng: np.random.Generator) -> str:
    """Augment a query, which never becomes blank; the number of draws is constant."""
    lower, stop, question = rng.random(3)
    if stop < settings.drop_stop_words:
        query = _without(query, STOP_WORDS)
    elif question < settings.drop_question_words:
        query = _without(query, QUESTION_WORDS)
    return query.lower() if lower < settings.lower_case else query


def changed_text(text: str, settings: AugmentConfig, rng: np.random.Generator) -> str:
    """Augment a text to classify: lower case, a cut."""
    lower = rng.random()
    text = cut_passage(text, settings, rng)
    return text.lower() if lower < settings.lower_case else text


def cut_passage(passage: str, settings: AugmentConfig, rng: np.random.Generator) -> str:
    """Cut a passage to a random run of at least a third of its words, with some probability; always three draws."""
    chance, share, place = rng.random(3)
    words = passage.split()
    if chance >= settings.cut_passages or len(words) < 2:
        return passage
    kept = max(1, round(len(words) * (_SHORTEST_CUT + share * (1 - _SHORTEST_CUT))))
    start = int(place * (len(words) - kept + 1))
    return " ".join(words[start : start + kept])


def shortened(passage: str, max_words: int | None) -> str:
    """First `max_words` words of a passage."""
    if max_words is None:
        return passage
    words = passage.split(maxsplit=max_words)
    return passage if len(words) <= max_words else " ".join(words[:max_words])


def _without(query: str, dropped: frozenset[str]) -> str:
    kept = [word for word in query.split() if word.strip(_PUNCTUATION).lower() not in dropped]
    return " ".join(kept) or query
