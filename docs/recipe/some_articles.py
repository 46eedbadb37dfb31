"""Writes a part of a collection: some articles with all their questions, so that many ask for the same passage.

python docs/recipe/some_articles.py COLLECTION FOLDER NUMBER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from gliclass_rerank.files.atomic_write import atomic_folder
from gliclass_rerank.learn.data.passage_pool import required
from gliclass_rerank.learn.evaluation.collection import qrels_file, read_judgments
from gliclass_rerank.learn.evaluation.files import read_jsonl

source, target, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])


documents = {record.string("id"): record.fields for record in read_jsonl(required(source, "corpus.jsonl"))}
queries = {record.string("id"): record.fields for record in read_jsonl(required(source, "queries.jsonl"))}
judged = list(read_judgments(qrels_file(source, "train")))
titles = sorted({documents[doc_id]["title"] for _, doc_id, _ in judged})
chosen = set(np.random.default_rng(5).choice(titles, min(number, len(titles)), replace=False).tolist())
kept = [row for row in judged if documents[row[1]]["title"] in chosen]
with atomic_folder(target) as staging:
    lines_of = {
        "qrels.train.tsv": ["\t".join(map(str, row)) for row in kept],
        "queries.jsonl": [json.dumps(queries[row[0]]) for row in kept],
        "corpus.jsonl": [json.dumps(documents[doc_id]) for doc_id in sorted({row[1] for row in kept})],
    }
    for name, found in lines_of.items():
        (staging / name).write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
