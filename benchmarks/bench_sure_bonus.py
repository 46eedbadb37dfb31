"""Shares of a cascade's networks and bonuses by the second one's logit, on dev sets.

    python benchmarks/bench_sure_bonus.py --dev FOLDER --logits FILE.jsonl [--model CASCADE] [--limit 25]

`python -m gliclass_rerank.learn.data.lists dev` writes the dev sets. Logits that the file has are not computed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from bench_calibration import loaded
from harness import print_json

from gliclass_rerank.cascade import CascadeConfig
from gliclass_rerank.checkpoint.location import DEFAULT_RANKER, bundled_folder, read_config
from gliclass_rerank.learn.evaluation.collection import load_collection
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.prompt.layout import ScoringRequest

SHARES = (0.6, 0.7, 0.8, 0.85, 0.9)
SLOPES, LIMITS = (0.5, 1.0, 1.5, 2.0, 3.0), (2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
DISCOUNTS = 1 / np.log2(np.arange(2, 12))


def scored(
    folder: Path, dev: Path, depth: int, num_queries: int, known: set[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """Logits of both networks for the first one's best candidates of each query."""
    pair = list[Pipeline]()
    for path in sorted(each for each in dev.iterdir() if each.is_dir()):
        collection = load_collection(path, "dev")
        for query, text in list(collection.queries.items())[:num_queries]:
            if (path.name, query) in known:
                continue
            first, second = pair = pair or loaded(folder, "openvino")
            ids = {collection.passages[key]: key for key in collection.candidates[query]}  # equal texts once
            logits = first.score([ScoringRequest(text, list(ids))], truncate_side="candidates")[0].logits
            best = sorted(zip(logits, ids, strict=True), reverse=True)[:depth]
            again = [ScoringRequest(text, [passage for _, passage in best])]
            grades = collection.qrels[query]
            yield {
                "set": path.name,
                "query": query,
                "first": [logit for logit, _ in best],
                "second": second.score(again, truncate_side="candidates")[0].logits,
                "grades": [grades.get(ids[passage], 0) for _, passage in best],
                "ideal": sorted(grades.values(), reverse=True)[:10],
            }


def mean_ndcg(rows: Sequence[dict[str, Any]], config: CascadeConfig) -> float:
    """nDCG@10 of the mixture, the mean over collections."""
    found = dict[str, list[float]]()
    for row in rows:
        order = np.argsort(-np.array(config.mixed(row["first"], row["second"])), kind="stable")[:10]
        gains, ideal = np.array(row["grades"], dtype=float)[order], np.array(row["ideal"], dtype=float)
        best = float(ideal @ DISCOUNTS[: len(ideal)])
        found.setdefault(row["set"], []).append(float(gains @ DISCOUNTS[: len(gains)]) / best if best else 0.0)
    return float(np.mean([np.mean(each) for each in found.values()]))


def main() -> None:
    """Print the best settings, and the cascade's own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev", type=Path, required=True, help="folder of collections")
    parser.add_argument("--logits", type=Path, required=True, help="file of logits, written where they lack")
    parser.add_argument("--model", type=Path, default=bundled_folder(DEFAULT_RANKER), help="folder of the cascade")
    parser.add_argument("--limit", type=int, default=25, help="queries of a collection at most")
    arguments = parser.parse_args()
    config = CascadeConfig.from_dict(read_config(arguments.model))
    path, rows = arguments.logits, []
    if path.is_file():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    known = {(row["set"], row["query"]) for row in rows}
    with path.open("a", encoding="utf-8") as handle:
        for row in scored(arguments.model, arguments.dev, config.rerank_depth, arguments.limit, known):
            handle.write(json.dumps(row) + "\n")
            rows.append(row)
    own = (config.first_weight, config.sure_bonus)
    bonuses = [None, *((slope, -slope * limit) for slope, limit in product(SLOPES, LIMITS))]
    tried = {}
    for share, bonus in [own, *product(SHARES, bonuses)]:
        setting = CascadeConfig(first="first", second="second", first_weight=share, sure_bonus=bonus)
        tried[share, bonus] = mean_ndcg(rows, setting)
    best = sorted(tried, key=lambda each: -tried[each])
    without = max((each for each in tried if each[1] is None), key=tried.__getitem__)
    print("share of the first network, bonus: mean nDCG@10 of the sets")
    for name, setting in (("as it is", own), ("best without", without), *(("", each) for each in best[:12])):
        print(f"{setting[0]}, {setting[1]}: {tried[setting]:.4f} {name}")
    table = [{"first_weight": share, "sure_bonus": bonus, "ndcg@10": tried[share, bonus]} for share, bonus in tried]
    print_json({"rows": table, "queries": len(rows), "sets": len({row["set"] for row in rows})})


if __name__ == "__main__":
    main()
