"""Question: does a ranker get better by what its users do, and does the gate refuse what makes it worse?

    python benchmarks/bench_feedback.py --data RERANK_FOLDER... [--sets NAME...] [--signals N...] [--users KIND...]

Simulated users (`simulated_users.py`) ask questions of a judged collection and get the start's ranking of its first
candidates; what they click or judge is logged. Four arms answer questions that were asked (`seen`), ask for the same
answer in other words (`reworded`), or ask for answers that nobody asked for (`new`): the start, the start with judged
examples, the learned model, and both. A learned model is measured whatever the gate says about it; the verdict stands
beside. Weights learned here are thrown away.

Passages are cut, so that an hour of one shared core is enough; absolute figures are below those of whole passages.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from harness import environment, print_json
from paired import p_value
from ranking_sets import cut, measured_queries
from simulated_users import USERS, Questions, questions

from gliclass_rerank import Reranker
from gliclass_rerank.checkpoint.location import DEFAULT_RANKER
from gliclass_rerank.feedback import FeedbackLog, LoggedRanking, ShownPassage
from gliclass_rerank.learn import LearnSettings, learn
from gliclass_rerank.learn.evaluation.ranking import evaluate_queries
from gliclass_rerank.learn.updating.gathering import gather
from gliclass_rerank.learn.updating.lists import passage_gains

Row = dict[str, Any]
KINDS = ("seen", "reworded", "new")
ARMS = ("start", "examples", "learning", "both")


class Bench:
    """A collection with its simulated users.

    Args:
        folder: Collection.
        arguments: The command line's.
    """

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        found = measured_queries(folder, limit=arguments.queries, depth=arguments.depth)
        self.collection = cut(found, arguments.words)
        self.questions: Questions = questions(self.collection, limit=arguments.tests, seed=arguments.seed)
        self.start = self.ranker(DEFAULT_RANKER)
        self.shown: dict[str, tuple[ShownPassage, ...]] = {}
        self.of_start = {kind: self.measure(self.start, kind) for kind in KINDS}

    def ranker(self, model: str | Path, store: Path | None = None) -> Reranker:
        """A ranker as the benchmark runs it."""
        return Reranker(model, backend="torch", dtype=self.arguments.dtype, example_store=store)

    def texts(self, name: str) -> list[str]:
        """Candidates of a query."""
        return [self.collection.passages[doc] for doc in self.collection.candidates[name]]

    def list_of(self, name: str) -> tuple[ShownPassage, ...]:
        """Ranking that the start shows for a query."""
        if name not in self.shown:
            ranking = self.start.rank(self.collection.queries[name], self.texts(name))
            self.shown[name] = tuple(ShownPassage(hit.index, hit.logit, hit.score, hit.text) for hit in ranking)
        return self.shown[name]

    def simulate(self, path: Path, users: str, count: int) -> None:
        """Log sessions until users gave so many signals."""
        (act, are_grades), rng = USERS[users], random.Random(f"{self.arguments.seed} {users}")
        given = 0
        with FeedbackLog(path) as log:
            while given < count:
                name = rng.choice(self.questions.asked)
                shown, docs = self.list_of(name), self.collection.candidates[name]
                grades = self.collection.qrels[name]
                found = act([grades.get(docs[one.index], 0) > 0 for one in shown], rng)
                found = dict([*found.items()][: count - given])
                if not found:
                    continue
                ranking = LoggedRanking(f"{given}", 1.0 + given, "start", self.collection.queries[name], shown)
                log.add([ranking])
                values = {shown[place].index: value for place, value in found.items()}
                if are_grades:
                    log.graded(ranking.id, values)
                else:
                    log.clicks(ranking.id, list(values))
                given += len(found)

    def measure(self, ranker: Reranker, kind: str) -> list[float]:
        """nDCG@10 of each question of a kind."""
        run = {}
        for name, text in self.questions.tests[kind].items():
            docs = self.collection.candidates[name]
            run[name] = tuple(docs[hit.index] for hit in ranker.rank(text, self.texts(name)))
        qrels = {name: self.collection.qrels[name] for name in run}
        return [quality.ndcg_at_10 for quality in evaluate_queries(qrels, run).values()]

    def rows(self, users: str, count: int, scratch: Path) -> list[Row]:
        """Figures of all arms after so many signals."""
        log, started = scratch / "log.db", time.process_time()
        self.simulate(log, users, count)
        before = time.process_time()
        learned = learn(
            log, out=scratch / "model", settings=LearnSettings(**json.loads(self.arguments.settings)), force=True
        )
        seconds = time.process_time() - before
        store = scratch / "store.db"
        with FeedbackLog(log) as opened:
            teach(self.ranker(DEFAULT_RANKER, store), opened)
        rankers = {
            "start": self.start,
            "examples": self.ranker(DEFAULT_RANKER, store),
            "learning": self.ranker(learned.model),
            "both": self.ranker(learned.model, store),
        }
        facts = {
            "collection": self.collection.name,
            "users": users,
            "signals": count,
            "trained_on": learned.num_queries,
            "decay": learned.decay,
            "accepted": learned.verdict.is_accepted,
            "reasons": list(learned.verdict.reasons),
            "comparisons": learned.verdict.to_dict()["comparisons"],
            "learn_cpu_s": round(seconds, 1),
        }
        found = []
        for arm in ARMS:
            for kind in KINDS:
                base = self.of_start[kind]
                values = base if arm == "start" else self.measure(rankers[arm], kind)
                row = {**facts, "arm": arm, "kind": kind, "queries": len(values), "ndcg@10": sum(values) / len(values)}
                found.append({**row, "start": sum(base) / len(base), "p": p_value(values, base)})
        print(f"{self.collection.name}, {users}, {count}: {time.process_time() - started:.0f} s of a core", flush=True)
        return found


def teach(ranker: Reranker, log: FeedbackLog) -> None:
    """Give the example store what users liked: the passage with the largest gain of each query."""
    for query in gather(log).queries:
        gains = passage_gains(query, None)
        best = max(gains, key=lambda passage: gains[passage])
        if gains[best] > 0:
            ranker.feedback(query.query, relevant=[best])


def print_table(rows: list[Row]) -> None:
    """A line a learning and arm."""
    print(f"\n| collection | users | signals | arm | {' | '.join(KINDS)} | gate |\n{'|---' * 8}|")
    cells: dict[tuple[str, str, int, str], Mapping[str, Row]] = {}
    for row in rows:
        key = row["collection"], row["users"], row["signals"], row["arm"]
        cells[key] = {**cells.get(key, {}), row["kind"]: row}
    for (collection, users, signals, arm), found in cells.items():
        figures = " | ".join(f"{found[kind]['ndcg@10']:.3f} (p {found[kind]['p']:.2f})" for kind in KINDS)
        verdict = "accepted" if found["new"]["accepted"] else "refused"
        print(f"| {collection} | {users} | {signals} | {arm} | {figures} | {verdict} |")


def plot(rows: list[Row], path: Path) -> None:
    """nDCG@10 against the number of signals, a panel a collection and kind of question."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["users"] == "clicks"]
    names = list(dict.fromkeys(row["collection"] for row in rows))
    figure = Figure(figsize=(10, 3 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), len(KINDS), squeeze=False, sharex=True)
    for line, name in zip(panels, names, strict=True):
        for panel, kind in zip(line, KINDS, strict=True):
            for arm in ARMS[1:]:
                own = [row for row in rows if (row["collection"], row["kind"], row["arm"]) == (name, kind, arm)]
                points = sorted((row["signals"], row["ndcg@10"]) for row in own)
                panel.plot([0, *(x for x, _ in points)], [own[0]["start"], *(y for _, y in points)], "o-", label=arm)
            panel.set_title(f"{name}, {kind}", fontsize=9)
            panel.set_xscale("symlog", linthresh=10)
    panels[0][0].legend()
    panels[-1][0].set_xlabel("signals")
    panels[0][0].set_ylabel("nDCG@10")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print a table and one JSON line; rows are kept in `--out` as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of collections")
    parser.add_argument("--sets", nargs="+", default=["covidfaq_para", "techfaq", "medquad"])
    parser.add_argument("--signals", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--users", nargs="+", default=["clicks"], choices=USERS)
    parser.add_argument("--queries", type=int, default=240, help="of a collection")
    parser.add_argument("--tests", type=int, default=60, help="questions of a kind at most")
    parser.add_argument("--depth", type=int, default=15, help="candidates of a query")
    parser.add_argument("--words", type=int, default=60, help="of a passage")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--settings", default="{}", help="settings of learning, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file of the rows, extended if it is there")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    if arguments.out is not None and arguments.out.exists():
        rows = json.loads(arguments.out.read_text(encoding="utf-8"))["rows"]
    for name in arguments.sets:
        bench = Bench(next(data / name for data in arguments.data if (data / name).is_dir()), arguments)
        for users in arguments.users:
            for count in arguments.signals:
                with tempfile.TemporaryDirectory() as scratch:
                    rows += bench.rows(users, count, Path(scratch))
                if arguments.out is not None:
                    result = {"environment": environment(), "benchmark": "feedback", "rows": rows}
                    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_table(rows)
    if arguments.plot is not None:
        plot(rows, arguments.plot)
    settings = {key: value for key, value in vars(arguments).items() if key not in ("data", "out", "plot")}
    print_json({"benchmark": "feedback", "rows": rows, "settings": settings})


if __name__ == "__main__":
    main()
