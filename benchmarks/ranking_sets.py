"""The queries that benchmarks of ranking measure, and the order that scores give their candidates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.collection import Collection, load_collection, spread
from gliclass_rerank.learn.training.augment import shortened

# A file of judgments that a collection brings beside its splits' own, made by the full pool of a track.
FULL_QRELS = "qrels_full.tsv"

Scores = dict[str, list[float]]


def measured_split(folder: Path) -> str:
    """The split of a collection that is measured: test, else dev."""
    split = next((split for split in ("test", "dev") if any(folder.glob(f"qrels.{split}.tsv*"))), None)
    if split is None:
        raise DataError(f"{folder}: neither a test nor a dev split")
    return split


def measured_queries(folder: Path, *, limit: int | None, depth: int) -> Collection:
    """Some queries of a collection's measured split, evenly spread, with their first `depth` candidates."""
    split = measured_split(folder)
    full = FULL_QRELS if (folder / FULL_QRELS).is_file() else None
    return headed(spread_queries(load_collection(folder, split, qrels=full), limit), depth)


def spread_queries(collection: Collection, limit: int | None) -> Collection:
    """The collection with at most `limit` of its queries, evenly spread; None keeps all."""
    names = list(collection.queries)
    chosen = [names[position] for position in spread(len(names), limit)]
    return replace(
        collection,
        queries={name: collection.queries[name] for name in chosen},
        qrels={name: collection.qrels[name] for name in chosen},
        candidates={name: collection.candidates[name] for name in chosen},
    )


def headed(collection: Collection, depth: int) -> Collection:
    """The collection with each query's first `depth` candidates."""
    return replace(collection, candidates={name: ids[:depth] for name, ids in collection.candidates.items()})


def cut(collection: Collection, words: int) -> Collection:
    """The collection with at most so many words of each passage."""
    return replace(collection, passages={name: shortened(text, words) for name, text in collection.passages.items()})


def ranked(collection: Collection, scores: Scores | None) -> dict[str, tuple[str, ...]]:
    """The run of the candidates; None keeps the first stage's order. Scores of a longer list are cut to theirs."""
    run = {}
    for name, doc_ids in collection.candidates.items():
        values = [0.0] * len(doc_ids) if scores is None else scores[name]
        order = sorted(range(len(doc_ids)), key=lambda index: (-values[index], index))
        run[name] = tuple(doc_ids[index] for index in order)
    return run
