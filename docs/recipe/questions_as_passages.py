"""Writes questions as a corpus, so that `gliclass-rerank mine` finds similar questions for a question.

python questions_as_passages.py FOLDER FILE.tsv[.gz] ...
"""

import gzip
import json
import sys
from pathlib import Path

folder, *files = map(Path, sys.argv[1:])
questions: dict[str, None] = {}
for file in files:
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        questions.update(dict.fromkeys(line.split("\t")[0].strip() for line in lines))
folder.mkdir()
with (folder / "corpus.jsonl").open("w", encoding="utf-8") as out:
    for number, question in enumerate(filter(None, questions)):
        out.write(json.dumps({"id": str(number), "text": question}) + "\n")
