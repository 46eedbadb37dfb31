"""Mixes teachers' scores into one, `mixture`: the first one's, and of the others what is above their list's mean.

python docs/recipe/mix_scores.py RECORDS.jsonl OUT.jsonl NAME NAME=WEIGHT ...

A passage out of which a long query was taken would be found by its words alone; it is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

source, target, base, *others = sys.argv[1:]
weights = {name: float(weight) for name, _, weight in (other.partition("=") for other in others)}
with Path(source).open(encoding="utf-8") as records, Path(target).open("w", encoding="utf-8") as out:
    for record in map(json.loads, records):
        scores = {name: np.array(values) for name, values in record["teacher_scores"].items()}
        mixture = scores[base] + sum(weight * (scores[name] - scores[name].mean()) for name, weight in weights.items())
        beginning = record["query"][:120]
        kept = [number for number, text in enumerate(record["passages"]) if beginning not in text]
        if len(kept) > 1:
            record["passages"] = [record["passages"][number] for number in kept]
            record["grades"] = [record["grades"][number] for number in kept]
            record["teacher_scores"] = {"mixture": [round(float(mixture[number]), 3) for number in kept]}
            record.pop("passage_ids", None)
            out.write(json.dumps(record) + "\n")
