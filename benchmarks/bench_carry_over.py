"""Question: what do judgements bring to rewordings of the judged queries, and what do they cost new ones?

    python benchmarks/bench_carry_over.py --data RERANK_FOLDER... [--sets NAME...]

A store has the best passage of each asked query of a judged collection (`simulated_users.questions`). Three arms rank
the candidates of questions that ask for the same answer in other words (`reworded`), and of those that ask for what
nobody asked (`new`): without the store, with its three most similar examples in the prompt, and as a reranker with the
store does it, which carries judgements of similar queries over. Passages are cut to `--words`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness import environment, print_json
from paired import p_value
from ranking_sets import cut, measured_queries
from simulated_users import questions
from tables_of_quality import carry_over_table

from gliclass_rerank import Example, Reranker
from gliclass_rerank.examples import ExampleStore
from gliclass_rerank.learn.evaluation.collection import Collection
from gliclass_rerank.learn.evaluation.ranking import evaluate_queries

KINDS = ("reworded", "new")
ARMS = ("without", "shown", "carried over")
SETS = ("covidfaq_para", "techfaq", "squad", "squad_sent", "medquad", "docsections", "debian_descriptions", "pycode")


def rows_of(collection: Collection, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """nDCG@10 of each arm and kind of question."""
    asked = questions(collection, limit=arguments.tests, seed=arguments.seed)
    with ExampleStore(None) as store:
        for name in asked.asked:
            grades = collection.qrels[name]
            best = collection.passages.get(max(grades, key=lambda doc: grades[doc]))
            if best is not None:
                store.add_judgements(Example(collection.queries[name], (best,)))
        plain = Reranker(arguments.model, threads=arguments.threads)
        stored = Reranker(arguments.model, threads=arguments.threads, example_store=store, allow_same_text=False)
        rows = []
        for kind in KINDS:
            runs: dict[str, dict[str, tuple[str, ...]]] = {arm: {} for arm in ARMS}
            for name, text in asked.tests[kind].items():
                docs = collection.candidates[name]
                passages = [collection.passages[doc] for doc in docs]
                rankings = {
                    "without": plain.rank(text, passages),
                    "shown": plain.rank(text, passages, examples=store.find_examples([text], 3, 0.5)[0]),
                    "carried over": stored.rank(text, passages),
                }
                for arm, ranking in rankings.items():
                    runs[arm][name] = tuple(docs[hit.index] for hit in ranking)
            qrels = {name: collection.qrels[name] for name in runs["without"]}
            values = {
                arm: [each.ndcg_at_10 for each in evaluate_queries(qrels, run).values()] for arm, run in runs.items()
            }
            for arm in ARMS:
                mean, p = sum(values[arm]) / len(values[arm]), p_value(values[arm], values["without"])
                row = {"set": collection.name, "judged": len(store), "kind": kind, "arm": arm}
                rows.append({**row, "queries": len(values[arm]), "ndcg@10": mean, "p": p})
    return rows


def main() -> None:
    """Print a table and one JSON line; rows are kept in `--out` as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of collections")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--model", help="default: the bundled one")
    parser.add_argument("--queries", type=int, default=240, help="of a collection")
    parser.add_argument("--tests", type=int, default=30, help="questions of a kind at most")
    parser.add_argument("--depth", type=int, default=20, help="candidates of a query")
    parser.add_argument("--words", type=int, default=80, help="of a passage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file of the rows")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in arguments.sets:
        folder = next(data / name for data in arguments.data if (data / name).is_dir())
        collection = measured_queries(folder, limit=arguments.queries, depth=arguments.depth)
        rows += rows_of(cut(collection, arguments.words), arguments)
        if arguments.out is not None:
            result = {"environment": environment(), "benchmark": "carry_over", "rows": rows}
            arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(carry_over_table(rows))
    print_json({"benchmark": "carry_over", "rows": rows})


if __name__ == "__main__":
    main()
