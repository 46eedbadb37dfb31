"""Labelled records, and an encoder for them that needs no model."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

from gliclass_rerank.examples import CallableEncoder

LABELS = ("brakes", "drivetrain", "saddle")
_SYMPTOMS = {
    "brakes": "brakes squeal when wet",
    "drivetrain": "chain slips under load",
    "saddle": "saddle sinks while riding",
}


def write_lines(path: Path, records) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def read_lines(path: Path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def classified(count, *, labels=LABELS):
    """Texts in as many clusters as there are labels, all different; the label of a text is that of its cluster."""
    return [
        {"text": f"{_SYMPTOMS[label]} on bike {number}", "labels": [label], "all_labels": [*labels], "note": number}
        for number, label in ((number, labels[number % len(labels)]) for number in range(count))
    ]


def ranked(count):
    """Queries in three clusters, each with two relevant, two irrelevant and an unjudged passage."""
    return [
        {
            "query": record["text"],
            "passages": [f"{kind} {number}" for kind in ("good", "bad", "better", "worse", "unknown")],
            "grades": [1, 0, 2, 0, None],
        }
        for number, record in enumerate(classified(count))
    ]


def _vector(word):
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=48)


def bag_of_words(texts):
    """Texts that share words are similar."""
    return np.stack([np.sum([_vector(word) for word in text.lower().split()], axis=0) for text in texts])


ENCODER = CallableEncoder(bag_of_words, name="bag of words")
