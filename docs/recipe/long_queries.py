"""Writes long queries as a file of questions: beginnings of passages, and three questions on one passage in a row.

python docs/recipe/long_queries.py OUT.jsonl NUMBER COLLECTION ...
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from gliclass_rerank.learn.data.passage_pool import load_pool
from gliclass_rerank.learn.data.questions import Judged, Sources, load_queries

out, number, folders = Path(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
rng = np.random.default_rng(41)
queries = []
for folder in folders:
    pool = load_pool([folder], max_words=None)
    long = [text.split() for text in pool.texts if 26 <= len(text.split()) <= 110]
    drawn = rng.permutation(len(long))[: max(1, number * 3 // 4 // len(folders))]
    queries += [" ".join(long[index][: rng.choice([30, 45, 60, 90])]) for index in drawn]
    asked = defaultdict(list)
    for query in load_queries(Sources(collections=(Judged(folder),)), pool, limit=None, seed=41):
        asked[query.positives[0]].append(query.text)
    together = [questions for questions in asked.values() if len(questions) >= 3]
    for index in rng.permutation(len(together))[: max(1, number // 4 // len(folders))]:
        joined = " ".join(rng.choice(together[index], 3, replace=False))
        if len(joined.split()) >= 22:
            queries.append(joined)
with out.open("w", encoding="utf-8") as file:
    file.writelines(json.dumps({"query": query}) + "\n" for query in queries)
