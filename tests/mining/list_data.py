"""A data folder with the collections that ranking lists are made of, generated: a passage has a word of its own."""

from __future__ import annotations

import random
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from mining_data import write_jsonl
from tiny_checkpoints import WORDS

from gliclass_rerank.text_models.interfaces import Embedded, Scored, by_ask, unit_length

WIDTH = 32
LEAKED_PASSAGE, LEAKED_QUESTION = "body of an evaluation passage", "what is evaluated here"


@cache
def _word_vector(word):
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=WIDTH).astype(np.float32)


class WordEncoder:
    """Sums vectors of words; remembers how many texts it has read, and fails when told to.

    What else is in the batch shifts a vector a little, as with int8 models.
    """

    def __init__(self, fails_after=None):
        self.num_texts, self._fails_after = 0, fails_after

    def encode(self, texts, role):
        self.num_texts += len(texts)
        if self._fails_after is not None and self.num_texts > self._fails_after:
            raise KeyboardInterrupt
        return Embedded(
            unit_length(np.stack([self._vector(text, role) + 1e-3 * len(texts) for text in texts])), len(texts)
        )

    @staticmethod
    def _vector(text, role):
        return sum(_word_vector(word) for word in [role, *text.lower().split()])


class SharedWords:
    """A teacher that counts shared words; fails when told to."""

    is_logit = True

    def __init__(self, fails_after=None):
        self.num_asks, self._fails_after = 0, fails_after

    def score(self, asks):
        self.num_asks += len(asks)
        if self._fails_after is not None and self.num_asks > self._fails_after:
            raise KeyboardInterrupt
        shared = [len({*query.split()} & {*passage.split()}) for query, passages in asks for passage in passages]
        return Scored(by_ask(shared, asks), 0)


def write_data(data: Path, *, num_passages: int = 1152) -> Path:
    """Two collections, questions that nobody has judged, and an evaluation set with texts of each.

    Passages are held out in runs of 48; `boolq` has its first such run at 1,056.
    """
    for name, has_dev in (("boolq", False), ("tldr", True)):
        _write_collection(data / "rerank" / "train" / name, num_passages, has_dev)
    (data / "queries").mkdir()
    asked = [f"question {number} about {WORDS[number % len(WORDS)]}" for number in range(400)]
    (data / "queries" / "nq_open.tsv").write_text("".join(f"{text}\tx\n" for text in [LEAKED_QUESTION, *asked]))
    held_out = data / "rerank" / "eval" / "measured"
    held_out.mkdir(parents=True)
    write_jsonl(held_out / "corpus.jsonl", [{"id": "e", "title": "other", "text": LEAKED_PASSAGE}])
    write_jsonl(held_out / "queries.jsonl", [{"id": "e", "text": LEAKED_QUESTION.upper()}])
    write_jsonl(held_out / "candidates.jsonl", [{"query_id": "e", "doc_ids": ["e"]}])
    return data


def _write_collection(folder: Path, num_passages: int, has_dev: bool) -> None:
    folder.mkdir(parents=True)
    rng = random.Random(folder.name)
    corpus = [
        {
            "id": f"d{n}",
            "title": f"{folder.name} {n // 10}",
            "text": LEAKED_PASSAGE if n % 48 == 7 else f"{folder.name}{n} " + " ".join(rng.choices(WORDS, k=60)),
        }
        for n in range(num_passages)
    ]
    # Three questions on a passage in a row, so that they can be joined.
    queries = [
        {"id": f"q{n}", "text": f"what is {folder.name}{n // 3} of the {rng.choice(WORDS)} number {n}"}
        for n in range(3 * num_passages)
    ]
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "queries.jsonl", queries)
    splits = {"train": range(3 * num_passages)}
    if has_dev:
        splits = {"train": range(60, 3 * num_passages), "dev": range(60)}
    for split, numbers in splits.items():
        (folder / f"qrels.{split}.tsv").write_text("".join(f"q{n}\td{n // 3}\t1\n" for n in numbers))


def stop(*_):
    """Ends a run as Ctrl-C does."""
    raise KeyboardInterrupt
