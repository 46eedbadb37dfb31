"""Simulated users: what they click and judge in a list, and questions asked once, again in other words, or never.

Click models: position-based (a place is looked at with probability 1/place), cascade (from the top down until
satisfied) and dependent click model (goes on after a click with probability 0.4, "informational"). Attractive is a
relevant passage with probability 1 - noise, an irrelevant one with probability `noise`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gliclass_rerank.learn.data.lists.forms import reworded
from gliclass_rerank.learn.evaluation.collection import Collection

NOISE = 0.1
LOOKED_AT = 3  # of users with thumbs
GOES_ON = 0.4

Act = Callable[[Sequence[bool], random.Random], dict[int, float]]
"""Function from the relevance of each place to grades by place; clicks are the 1s."""


@dataclass(frozen=True)
class Questions:
    """Questions of a collection; names are those of the collection's queries.

    Attributes:
        asked: Asked by simulated users.
        tests: By kind (`seen`, `reworded`, `new`), text by name of the query whose judgements it has.
    """

    asked: tuple[str, ...]
    tests: Mapping[str, Mapping[str, str]]


def questions(collection: Collection, *, limit: int, seed: int) -> Questions:
    """Part the questions by their answers: those of two thirds are asked, the others' are new.

    Of several questions with one answer the last is never asked and counts as a rewording; others are reworded by rule.

    Args:
        collection: Judged collection.
        limit: Questions of each kind of test at most.
        seed: Seed.
    """
    groups: dict[str, list[str]] = {}
    for name, grades in collection.qrels.items():
        groups.setdefault(max(grades, key=lambda doc: grades[doc]), []).append(name)
    rng, draws = random.Random(seed), np.random.default_rng(seed)
    parts = list(groups.values())
    rng.shuffle(parts)
    border = 2 * len(parts) // 3
    asked, others = [], {}
    for names in parts[:border]:
        asked += names[:1] if len(names) == 1 else names[:-1]
        others[names[-1]] = reworded(collection.queries[names[0]], draws) if len(names) == 1 else ""
    rewordings = {name: text or collection.queries[name] for name, text in others.items()}
    new = {name: collection.queries[name] for names in parts[border:] for name in names}
    seen = {name: collection.queries[name] for name in asked}
    kinds = {"seen": seen, "reworded": rewordings, "new": new}
    return Questions(tuple(asked), {kind: dict([*texts.items()][:limit]) for kind, texts in kinds.items()})


def clicks(relevant: Sequence[bool], rng: random.Random, *, noise: float = NOISE) -> dict[int, float]:
    """Clicks of a user whose model is drawn."""
    model = rng.choice(["position", "cascade", "dependent"])
    found = {}
    for place, is_relevant in enumerate(relevant):
        if model == "position" and rng.random() > 1 / (place + 1):
            continue
        if rng.random() < (1 - noise if is_relevant else noise):
            found[place] = 1.0
            if model == "cascade" or (model == "dependent" and rng.random() > GOES_ON):
                break
    return found


def thumbs(wrong: float) -> Act:
    """Users who judge the first three places, and are wrong at times."""

    def act(relevant: Sequence[bool], rng: random.Random) -> dict[int, float]:
        return {place: float(truth != (rng.random() < wrong)) for place, truth in enumerate(relevant[:LOOKED_AT])}

    return act


def by_position(relevant: Sequence[bool], rng: random.Random) -> dict[int, float]:
    """Clicks by place alone."""
    return {place: 1.0 for place in range(len(relevant)) if rng.random() < 0.5 / (place + 1)}


def by_chance(relevant: Sequence[bool], rng: random.Random) -> dict[int, float]:
    """A click anywhere."""
    return {rng.randrange(len(relevant)): 1.0}


def liars(share: float) -> Act:
    """Users some of whom click what is irrelevant, the lowest places first."""

    def act(relevant: Sequence[bool], rng: random.Random) -> dict[int, float]:
        if rng.random() >= share:
            return clicks(relevant, rng)
        return {max(place for place, truth in enumerate(relevant) if not truth): 1.0}

    return act


USERS: Mapping[str, tuple[Act, bool]] = {
    "clicks": (clicks, False),
    "thumbs, 10 % wrong": (thumbs(0.1), True),
    "thumbs, 20 % wrong": (thumbs(0.2), True),
    "control: random clicks": (by_chance, False),
    "control: position alone": (by_position, False),
    "attack: 20 % lie": (liars(0.2), False),
}
"""Act by kind of users, and whether it gives grades."""
