"""Tables of what rankings are worth."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from table_parts import Row, Table, best_bold, rows_of, table

# The last two hold at most so many queries of each collection.
QUALITY: Final = (
    "2026-11-30-quality.json",
    "2026-11-30-quality-100-queries.json",
    "2026-11-30-quality-40-queries.json",
)
CARRY_OVER: Final = "2026-11-30-carry-over.json"
LONG_PASSAGES: Final = "2026-11-30-long-passages.json"
CALIBRATION: Final = "2026-11-30-calibration.json"
SPANS: Final = "2026-11-30-spans.json"
PPO: Final = "2026-12-01-ppo.json"
CROSS_ENCODER: Final = "ms-marco-MiniLM-L-12-v2, int8"
SCORERS: Final = {
    "first stage": "first stage",
    CROSS_ENCODER: "ms-marco-MiniLM-L-12-v2",
    "minilm-l6-v1": "`minilm-l6-v1`",
    "ours": "**the default**",
}
COLLECTIONS: Final = {
    "trec_dl19": "trec_dl19 (web search)",
    "wikiqa": "wikiqa (answer sentences)",
    "semeval16_questions": "semeval16 (similar questions)",
    "techfaq": "techfaq (FAQ)",
    "covidfaq_para": "covidfaq (FAQ, paraphrased)",
    "cranfield": "cranfield (abstracts)",
    "cisi": "cisi (abstracts, long queries)",
}


def quality_rows(results: Path) -> list[Row]:
    """Rows of all collections, in the order of `COLLECTIONS` and `SCORERS`."""
    rows = [row for file in QUALITY for row in rows_of(results, file)]
    names, scorers = list(COLLECTIONS), list(SCORERS)
    return sorted(rows, key=lambda row: (names.index(row["collection"]), scorers.index(row["scorer"])))


def ndcg(results: Path) -> dict[tuple[str, str], float]:
    """Mean nDCG@10 by collection and scorer."""
    return {(row["collection"], row["scorer"]): row["ndcg@10, 100"] for row in quality_rows(results)}


def quality(results: Path) -> str:
    """Mean nDCG@10 by scorer and collection, and over all collections."""
    found = ndcg(results)
    queries = {row["collection"]: str(row["queries"]) for row in quality_rows(results)}
    columns = [best_bold([found[name, scorer] for scorer in SCORERS]) for name in COLLECTIONS]
    columns.append(best_bold([mean(found, scorer) for scorer in SCORERS]))
    heads = [f"{short(name)} ({queries[name]})" for name in COLLECTIONS]
    rows = [[title, *row] for title, row in zip(SCORERS.values(), zip(*columns, strict=True), strict=True)]
    return table(["", *heads, "mean"], rows)


def short(name: str) -> str:
    """Name of a collection without what it holds."""
    return COLLECTIONS[name].partition(" ")[0]


def mean(found: Mapping[tuple[str, str], float], scorer: str) -> float:
    """Mean of a scorer's figures over all collections."""
    return sum(found[name, scorer] for name in COLLECTIONS) / len(COLLECTIONS)


def quality_in_full(results: Path) -> str:
    """Both figures for each collection and scorer, and how likely chance is."""
    lines = [
        [
            COLLECTIONS[row["collection"]],
            str(row["queries"]),
            SCORERS[row["scorer"]],
            f"{row['ndcg@10, 100']:.3f}",
            f"{row['mrr@10, 100']:.3f}",
            "" if row["p"] is None else f"{row['p']:.4f}",
        ]
        for row in quality_rows(results)
    ]
    return table(["collection", "queries", "scorer", "nDCG@10", "MRR@10", "p against the default"], lines)


def carry_over(results: Path) -> str:
    """nDCG@10 of reworded and new questions, without a store, with examples shown, and with judgements carried over."""
    return carry_over_table(rows_of(results, CARRY_OVER))


def carry_over_table(rows: Sequence[Row]) -> str:
    """See `carry_over`."""
    columns = list(dict.fromkeys((row["kind"], row["arm"]) for row in rows))
    cells: dict[str, dict[tuple[str, str], float]] = {}
    for row in rows:
        cells.setdefault(row["set"], {})[row["kind"], row["arm"]] = row["ndcg@10"]
    cells["**mean**"] = {key: statistics.mean(each[key] for each in cells.values()) for key in columns}
    lines = [[name, *(f"{found[key]:.3f}" for key in columns)] for name, found in cells.items()]
    return table(["set", *(f"{kind}, {arm}" for kind, arm in columns)], lines)


def long_passages(results: Path) -> str:
    """Quality and cost of reading long passages in chunks."""
    rows = rows_of(results, LONG_PASSAGES)
    cut = {row["collection"]: row for row in rows if row["way"] == "cut"}
    lines = [
        [
            name,
            f"{row['long']:.0%}",
            f"{cut[name]['ndcg@10']:.3f}",
            f"{row['ndcg@10']:.3f}",
            f"{row['p']:.3f}",
            f"{row['tokens']:.1f}x",
            f"{row['seconds']:.1f}x",
        ]
        for row in rows
        if (name := row["collection"]) in cut and row["way"] == "best_chunk"
    ]
    return table(["nDCG@10", "long", "`cut`", "`best_chunk`", "p", "tokens", "time"], lines)


def calibration(results: Path) -> str:
    """Calibration errors and rates of scores, and areas under the ROC curve, a row a set."""
    keys = ("error_before", "error_after", "precision", "recall", "answerable_area")
    lines = []
    for row in rows_of(results, CALIBRATION):
        figures = (row.get(key) for key in keys)
        name = row["set"] if row["fitted"] else f"*{row['set']}*"
        lines.append([name, str(row["num_queries"]), *("" if each is None else f"{each:.2f}" for each in figures)])
    head = ["set", "queries", "ECE before", "after", "precision at 0.5", "recall at 0.5", "AUROC of `answerable`"]
    return table(head, lines)


def unseen(results: Path) -> str:
    """Difference between scores of passages without and with a second look."""
    found = json.loads((results / CALIBRATION).read_text(encoding="utf-8"))["unseen"]
    return (
        "Passages that the default's second model does not see: their scores differ from those that its look would "
        f"give\nby {found['with']:.3f} on average ({found['without']:.3f} without the estimate).\n"
    )


def spans(results: Path) -> str:
    """Sentences of squad's paragraphs: does the best one hold the answer, and what can be cut."""
    names = {
        "overlap": "words of the question",
        "minilm-l6-v1": "`minilm-l6-v1`",
        "minilm-cascade-v1": "**the default**",
    }
    rows = rows_of(results, SPANS)
    head = ("sentences ordered by", "passages", "questions", "hit rate", "AUC", "saved", "kept")
    return table(
        head,
        [
            [
                names.get(row["way"], row["way"]),
                *(str(row[key]) for key in ("depth", "questions")),
                *(f"{row[key]:.3f}" for key in ("hit", "auc")),
                *(f"{row[key]:.0%}" for key in ("saved", "kept")),
            ]
            for row in rows
        ],
    )


def ppo(results: Path) -> str:
    """Macro-F1 from few labels, mean of the seeds, an arm a row."""
    rows = rows_of(results, PPO)
    sets = list(dict.fromkeys(row["set"] for row in rows))
    names = {"bandit": "PPO, right or wrong alone", "then PPO": "supervised, then PPO"}
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        found = [[row["macro_f1"] for row in rows if row["arm"] == arm and row["set"] == name] for name in sets]
        lines.append([names.get(arm, arm), *(f"{statistics.mean(each):.3f}" if each else "" for each in found)])
    return table(["macro-F1", *sets], lines)


TABLES: Final[Mapping[str, Table]] = {
    "quality": quality,
    "quality-in-full": quality_in_full,
    "carry-over": carry_over,
    "long-passages": long_passages,
    "calibration": calibration,
    "unseen": unseen,
    "spans": spans,
    "ppo": ppo,
}
