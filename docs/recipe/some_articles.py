"""Writes a part of a collection: some articles with all their questions, so that many ask for the same passage.

python docs/recipe/some_articles.py COLLECTION FOLDER NUMBER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from gliclass_rerank.evaluation.files import read_lines
from gliclass_rerank.whole_file import whole_folder

source, target, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])


def lines(name: str) -> list[str]:
    """A file's lines; it may be gzipped."""
    path = source / name if (source / name).is_file() else source / f"{name}.gz"
    return [line for _, line in read_lines(path)]


documents = {document["id"]: document for document in map(json.loads, lines("corpus.jsonl"))}
queries = {query["id"]: query for query in map(json.loads, lines("queries.jsonl"))}
judged = [line.split("\t") for line in lines("qrels.train.tsv")]
titles = sorted({documents[doc_id]["title"] for _, doc_id, _ in judged})
chosen = set(np.random.default_rng(5).choice(titles, min(number, len(titles)), replace=False).tolist())
kept = [row for row in judged if documents[row[1]]["title"] in chosen]
with whole_folder(target) as staging:
    lines_of = {
        "qrels.train.tsv": ["\t".join(row) for row in kept],
        "queries.jsonl": [json.dumps(queries[row[0]]) for row in kept],
        "corpus.jsonl": [json.dumps(documents[doc_id]) for doc_id in sorted({row[1] for row in kept})],
    }
    for name, found in lines_of.items():
        (staging / name).write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
