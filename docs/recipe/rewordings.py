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

from gliclass_rerank.training.augment import changed_query
from gliclass_rerank.training.config import AugmentConfig
from gliclass_rerank.whole_file import whole_file

SHARE, MAX_OTHERS = 0.45, 2
BEGINNINGS = (
    "how do i", "can you tell me", "tell me", "please explain", "i want to know", "question about", "looking for",
    "help with", "does anyone know", "",
)  # fmt: skip
rng = np.random.default_rng(3)


def reworded(query: str) -> str:
    """The query in other words: fewer of them, others before them, another order, or some left out."""
    query = query.rstrip("?. ")
    words = query.split()
    way = rng.integers(5)
    if way == 0:
        query = changed_query(query, AugmentConfig(drop_stop_words=1), rng)
    elif way in {1, 2}:
        asked = changed_query(query, AugmentConfig(drop_question_words=1), rng)
        query = f"{BEGINNINGS[rng.integers(len(BEGINNINGS))]} {asked}".strip()
    elif len(words) > 4 and way == 3:
        query = " ".join(words[len(words) // 2 :] + words[: len(words) // 2])
    elif len(words) > 4:
        left_out = set(rng.choice(len(words), max(1, len(words) // 5), replace=False).tolist())
        query = " ".join(word for number, word in enumerate(words) if number not in left_out)
    return changed_query(query, AugmentConfig(lower_case=0.5), rng)


source, target = map(Path, sys.argv[1:])
with (
    source.open(encoding="utf-8") as records,
    whole_file(target) as staging,
    staging.open("w", encoding="utf-8") as out,
):
    for record in map(json.loads, records):
        relevant = [
            passage for passage, grade in zip(record["passages"], record["grades"], strict=True) if (grade or 0) > 0
        ]
        if relevant and rng.random() < SHARE:
            own = {
                "text": reworded(record["query"]),
                "true_labels": [relevant[int(rng.integers(len(relevant)))]],
                "false_labels": [],
            }
            record["examples"] = [own, *record.get("examples", [])[: int(rng.integers(MAX_OTHERS + 1))]]
            if rng.random() < 0.3:
                rng.shuffle(record["examples"])
        out.write(json.dumps(record) + "\n")
