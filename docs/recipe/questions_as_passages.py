"""Writes questions as a corpus, so that `gliclass-rerank mine` finds similar questions for a question.

python docs/recipe/questions_as_passages.py FOLDER FILE.tsv[.gz] ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gliclass_rerank.learn.evaluation.files import read_lines

folder, *files = map(Path, sys.argv[1:])
first_columns = (text.partition("\t")[0].strip() for file in files for _, text in read_lines(file))
questions = dict.fromkeys(filter(None, first_columns))
folder.mkdir()
with (folder / "corpus.jsonl").open("w", encoding="utf-8") as out:
    for number, question in enumerate(questions):
        out.write(json.dumps({"id": str(number), "text": question}) + "\n")
