"""Mixes teachers' scores into one, `mixture`, that a model learns.

python docs/recipe/mix_scores.py KIND RECORDS.jsonl OUT.jsonl

A mixture is a base (how high a list's scores are) and, of each teacher, what is above its list's mean, times a weight.
Which teacher is right about which texts, judged lists told: the weights of `technical` are those that put most of the
relevant passages on top. What is known to be relevant gets a bonus, more if an example that is shown says so.

A passage out of which a long query was taken would be found by its words alone; it is left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

LONGEST_QUESTION = 150  # characters; what is longer was taken out of a passage, or joined
CROSS, DENSE, LATE, FIRST = "ms-marco-MiniLM-L-12", "bge-small-en", "answerai-colbert-small", "first"


@dataclass(frozen=True)
class Mixture:
    """What is added up.

    Attributes:
        weights: By teacher.
        base: The teacher whose mean is the list's, or that number.
        relevant: Added for a relevant passage.
        shown: Added besides for one that an example shows.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {CROSS: 1, DENSE: 20})
    base: str | float = CROSS
    relevant: float = 0
    shown: float = 0


# Sources of which the cross-encoder knows little.
TECHNICAL = frozenset({"pycode", "se_small", "tldr", "debian_descriptions", "docsections"})
KINDS = {
    "questions": Mixture(relevant=1.5),
    "similar": Mixture(),
    "technical": Mixture({CROSS: 0.6, DENSE: 30, LATE: 1}, base=FIRST, relevant=1.5),
    "long": Mixture({DENSE: 30, LATE: 0.4}, base=-2.2),
    "judged": Mixture(relevant=2, shown=3.5),
}


def mixture_of(kind: str, query_id: str) -> Mixture:
    """What is added up for one record."""
    chosen = KINDS[kind]
    if kind in {"questions", "technical"} and query_id.partition("/")[0] in TECHNICAL:
        return replace(chosen, weights={**chosen.weights, CROSS: 0.3, DENSE: 50})
    return chosen


kind, source, target = sys.argv[1:]
with Path(source).open(encoding="utf-8") as records, Path(target).open("w", encoding="utf-8") as out:
    for record in map(json.loads, records):
        chosen = mixture_of(kind, record.get("query_id", ""))
        scores = {name: np.array(values) for name, values in record["teacher_scores"].items()}
        base = scores[chosen.base].mean() if isinstance(chosen.base, str) else chosen.base
        mixture = np.full(len(record["passages"]), base)
        for name, weight in chosen.weights.items():
            mixture += weight * (scores[name] - scores[name].mean())
        shown = {label for example in record.get("examples", ()) for label in example["true_labels"]}
        for number, (passage, grade) in enumerate(zip(record["passages"], record["grades"], strict=True)):
            if grade:
                mixture[number] += chosen.relevant + chosen.shown * (passage in shown)
        query = record["query"]
        source_of = query[:120] if len(query) > LONGEST_QUESTION else None
        kept = [number for number, text in enumerate(record["passages"]) if source_of is None or source_of not in text]
        if len(kept) > 1:
            record["passages"] = [record["passages"][number] for number in kept]
            record["grades"] = [record["grades"][number] for number in kept]
            record["teacher_scores"] = {"mixture": [round(float(mixture[number]), 3) for number in kept]}
            record.pop("passage_ids", None)
            out.write(json.dumps(record) + "\n")
