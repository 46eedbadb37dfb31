"""Shows nearly half of the records a rewording of their own query, with a passage that is relevant to it.

python docs/recipe/rewordings.py RECORDS.jsonl OUT.jsonl

That is what a log of clicks holds. Similar questions alone mostly ask for another passage, and teach a model to leave
examples aside.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.learn.data.lists.forms import reworded

SHARE, MAX_OTHERS = 0.45, 2
rng = np.random.default_rng(3)


source, target = map(Path, sys.argv[1:])
with (
    source.open(encoding="utf-8") as records,
    atomic_file(target) as staging,
    staging.open("w", encoding="utf-8") as out,
):
    for record in map(json.loads, records):
        relevant = [
            passage for passage, grade in zip(record["passages"], record["grades"], strict=True) if (grade or 0) > 0
        ]
        if relevant and rng.random() < SHARE:
            own = {
                "text": reworded(record["query"], rng),
                "true_labels": [relevant[int(rng.integers(len(relevant)))]],
                "false_labels": [],
            }
            record["examples"] = [own, *record.get("examples", [])[: int(rng.integers(MAX_OTHERS + 1))]]
            if rng.random() < 0.3:
                rng.shuffle(record["examples"])
        out.write(json.dumps(record) + "\n")
