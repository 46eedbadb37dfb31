"""Lists of every kind for calibration, out of train-ok collections, in the format of `gliclass-rerank calibrate`.

    python benchmarks/calibration_lists.py --data RERANK_TRAIN_FOLDER --out FOLDER [--queries 32] [--depth 14]
    python benchmarks/calibration_lists.py --measured RERANK_EVAL_FOLDER --out OTHER_FOLDER

A list holds a query's relevant passages and its best BM25 candidates; collections of one kind share a pool. Queries
are evenly spread over a collection. Every tenth list of a kind is as long as `--long`. Questions that no passage
answers stay, with the paragraph they were written for. With `--measured`, lists of collections that are not fitted on:
the first candidates of their own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ranking_sets import measured_queries

from gliclass_rerank.learn.data.retrieval import Bm25Retriever
from gliclass_rerank.learn.evaluation.collection import qrels_file, read_judgments, spread
from gliclass_rerank.learn.evaluation.files import existing, read_jsonl
from gliclass_rerank.learn.evaluation.passages import passage_text

SPLIT: Final = "dev"
# Collections and splits by kind; no split is one that the bundled models are measured on.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "web-search": ("nq_qed:train", "nq_oracle:train", "boolq:train", "clapnq:dev"),
    "encyclopaedia": ("squad:dev",),
    "answer-sentences": ("selqa:train",),
    "sentences": ("squad_sent:dev",),
    "forum": ("se_small:train",),
    "help-pages": ("desktop_help:train",),
    "commands": ("tldr:train",),
    "documentation": ("docsections:dev",),
    "health": ("medquad:dev",),
    "textbook": ("openstax:train",),
    "unanswerable": ("squad2_dev:dev",),
}
# Half of these questions have no answer; `answerable` is fitted on them.
MORE: Final = {"unanswerable": 6}
FEW_JUDGED: Final = 4


@dataclass
class Pool:
    """Texts and judgments of the collections of one kind, under ids of their own."""

    queries: dict[str, str]
    passages: dict[str, str]
    grades: dict[str, dict[str, int]]


def pool(data: Path, sources: Iterable[str], num_queries: int) -> Pool:
    """Evenly spread queries of some collections, and all of their passages, each text once."""
    made, ids = Pool({}, {}, {}), dict[str, str]()
    sources = tuple(sources)
    for source in sources:
        name, split = source.split(":")
        own = dict[str, str]()
        for record in read_jsonl(_file(data / name, "corpus.jsonl")):
            text = passage_text(record)
            own[record.string("id")] = ids.setdefault(text, f"{name}/{record.string('id')}")
            made.passages[ids[text]] = text
        judged: dict[str, dict[str, int]] = {}
        for query, passage, grade in read_judgments(qrels_file(data / name, split)):
            if passage in own:
                judged.setdefault(query, {})[own[passage]] = grade
        texts = {
            record.string("id"): record.string("text") for record in read_jsonl(_file(data / name, "queries.jsonl"))
        }
        keys = list(judged)
        for position in spread(len(keys), num_queries // len(sources)):
            made.queries[f"{name}/{keys[position]}"] = texts[keys[position]]
            made.grades[f"{name}/{keys[position]}"] = judged[keys[position]]
    return made


def lists(kind: Pool, depth: int, long: int) -> dict[str, list[str]]:
    """Judged passages and the best of BM25 for each query."""
    ids = list(kind.passages)
    found = Bm25Retriever([kind.passages[key] for key in ids]).retrieve(list(kind.queries.values()), long)
    made = {}
    for number, (query, row) in enumerate(zip(kind.queries, found, strict=True)):
        length, judged = (depth if number % 10 else long), list(kind.grades[query])
        if len(judged) > FEW_JUDGED:  # a list of its own
            made[query] = judged
            continue
        best = [ids[position] for position in row][:length]
        absent = [key for key in judged if key not in best]
        made[query] = best[: max(length - len(absent), 0)] + absent
    return made


def write(kind: Pool, candidates: Mapping[str, list[str]], folder: Path) -> None:
    """Write a collection."""
    folder.mkdir(parents=True)
    used = {key for row in candidates.values() for key in row}
    _write_jsonl(folder / "queries.jsonl", ({"id": key, "text": text} for key, text in kind.queries.items()))
    _write_jsonl(folder / "corpus.jsonl", ({"id": key, "text": kind.passages[key]} for key in sorted(used)))
    _write_jsonl(folder / "candidates.jsonl", ({"query_id": key, "doc_ids": row} for key, row in candidates.items()))
    with (folder / f"qrels.{SPLIT}.tsv").open("w", encoding="utf-8") as handle:
        for query, grades in kind.grades.items():
            handle.writelines(f"{query}\t{passage}\t{grade}\n" for passage, grade in grades.items())


def _write_jsonl(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _file(folder: Path, name: str) -> Path:
    path = existing(folder / name)
    if path is None:
        raise FileNotFoundError(folder / name)
    return path


def main() -> None:
    """Write a folder for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, help="folder of train-ok collections")
    data.add_argument("--measured", type=Path, help="folder of collections to measure on")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--queries", type=int, default=32, help="queries of a kind")
    parser.add_argument("--depth", type=int, default=14, help="length of a list")
    parser.add_argument("--long", type=int, default=40, help="length of every tenth list")
    arguments = parser.parse_args()
    if arguments.measured is not None:
        for folder in sorted(path for path in arguments.measured.iterdir() if path.is_dir()):
            some = measured_queries(folder, limit=arguments.queries, depth=arguments.depth)
            own = Pool(dict(some.queries), dict(some.passages), {key: dict(row) for key, row in some.qrels.items()})
            write(own, {key: list(row) for key, row in some.candidates.items()}, arguments.out / folder.name)
        return
    for name, sources in KINDS.items():
        kind = pool(arguments.data, sources, arguments.queries * MORE.get(name, 1))
        candidates = lists(kind, arguments.depth, arguments.long)
        write(kind, candidates, arguments.out / name)
        print(f"{name:18} {len(candidates)} lists, {sum(map(len, candidates.values()))} candidates")


if __name__ == "__main__":
    main()
