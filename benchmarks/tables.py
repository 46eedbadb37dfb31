"""Tables of the documents, generated from `benchmarks/results/*.json`.

    python benchmarks/tables.py [--check]

Writes what belongs between `<!-- table: NAME -->` and `<!-- end -->` into README.md and docs/**/*.md, and the figures
that `gliclass-rerank models` prints; with `--check` it only names the files that differ and exits with 1. Needs nothing
but Python.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
MARKED: Final = re.compile(r"(?P<open><!-- table: (?P<name>\S+) -->\n).*?(?P<close><!-- end -->)", re.DOTALL)

Row = Mapping[str, Any]  # Any: JSON
Table = Callable[[Path], str]

# The last two hold at most so many queries of each collection.
QUALITY: Final = (
    "2026-11-30-quality.json",
    "2026-11-30-quality-100-queries.json",
    "2026-11-30-quality-40-queries.json",
)
ONE_THREAD: Final = "2026-11-29-throughput-x86_64-avx512-bf16-1-thread.json"
TWO_THREADS: Final = "2026-11-29-throughput-x86_64-avx512-bf16-2-threads.json"
WITH_AMX: Final = "2026-11-29-throughput-x86_64-amx-1-thread.json"
LONG_LISTS: Final = "2026-11-29-throughput-x86_64-avx512-bf16-1000-passages.json"
MEMORY: Final = ("2026-11-29-memory.json", "2026-11-29-memory-openvino.json")  # the second one was run later
GPU_COUNTS: Final = "2026-11-30-gpu-counts.json"
SERVE: Final = "2026-11-30-serve.json"
BATCH: Final = "2026-11-30-batch.json"
LONG_PASSAGES: Final = "2026-11-30-long-passages.json"
CALIBRATION: Final = "2026-11-30-calibration.json"
SPANS: Final = "2026-11-30-spans.json"
# Assumed in docs/guide/scale.md: load of a core at which queues stay short, cores of a machine, and a price.
LOAD, CORES, DOLLARS = 0.6, 64, 0.04
REQUESTS_PER_S, ROWS, PASSAGES_OF_ROW = 10_000, 10**9, 100
BUNDLED: Final = "gliclass_rerank/bundled"
MEASURED: Final = f"{BUNDLED}/measured.json"
REAL, EXAMPLES, LONG = "trec_dl19", "20x128+512", "1000xmixed"
PAIRS, PAIRS_INT8 = "CrossEncoder, torch float32", "CrossEncoder, OpenVINO int8"
RUNTIMES: Final = {
    "torch float32": "torch float32",
    "torch bfloat16": "torch bfloat16",
    "ONNX int8": "onnx int8",
    "OpenVINO bfloat16": "openvino bfloat16",
    "OpenVINO int8": "openvino int8",
}
MODELS: Final = {
    "CrossEncoder": "`CrossEncoder`, 6 layers",
    "ms-marco-MiniLM-L-12-v2": "ms-marco-MiniLM-L-12-v2",
    "minilm-l6-v1": "`minilm-l6-v1`, 6 layers",
    "minilm-cascade-v1": "**the default**, 6 layers, then 12 for the best 20",
}
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


def rows_of(results: Path, file: str, /, **wanted: object) -> list[Row]:
    """Rows of a results file that have these values."""
    rows: list[Row] = json.loads((results / file).read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right of the first column."""
    rule = "|".join(["---", *["--:"] * (len(head) - 1)])
    return (
        "\n".join([f"| {' | '.join(head).lstrip()} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
    )


def best_bold(values: Sequence[float | None]) -> list[str]:
    """Three decimals each, the largest in bold."""
    most = max(value for value in values if value is not None)
    texts = ["" if value is None else f"{value:.3f}" for value in values]
    return [f"**{text}**" if value == most else text for value, text in zip(values, texts, strict=True)]


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


def speed(results: Path) -> str:
    """Passages for each second, a row a model and a column a runtime."""
    found = {row["name"].lower(): row["passages_per_second"] for row in rows_of(results, ONE_THREAD, load=REAL)}
    lines = []
    for model, title in MODELS.items():
        values = [found.get(f"{model}, {runtime}".lower()) for runtime in RUNTIMES.values()]
        lines.append([title, *("" if value is None else f"{value:.0f}" for value in values)])
    return table(["passages/s", *RUNTIMES], lines)


def throughput(file: str, load: str) -> Table:
    """Everything that was raced with one load."""

    def made(results: Path) -> str:
        head = ["", "passages/s", "against `CrossEncoder`", "against its OpenVINO int8", "tokens", "nDCG@10"]
        return table(head, (cells(row) for row in rows_of(results, file, load=load)))

    def cells(row: Row) -> list[str]:
        figures = [
            f"{row['passages_per_second']:.1f}",
            *(f"{row['ratios'][base]:.2f}x" for base in (PAIRS, PAIRS_INT8)),
        ]
        ndcg = "" if row["ndcg_at_10"] is None else f"{row['ndcg_at_10']:.3f}"
        return [row["name"], *figures, f"{row['tokens']:,.0f}", ndcg]

    return made


def memory(results: Path) -> str:
    """Resident memory after each fifth of the passages."""
    rows = [*{row["name"]: row for file in MEMORY for row in rows_of(results, file)}.values()]
    steps = [rows[0]["passages"] * part // 5 for part in range(1, 6)]
    lines = [[row["name"], *(f"{size / 2**20:,.0f}" for size in row["resident_bytes"])] for row in rows]
    return table(["MiB after so many passages", *(f"{step:,}" for step in steps)], lines)


def serve(results: Path) -> str:
    """Server under load, beside the library in the same run."""
    rows = rows_of(results, SERVE, server="gliclass-rerank")
    lines = [
        [
            str(row["callers"]),
            str(row["passages"]),
            f"{row['processor_share']:.0%}",
            *(str(row[name]) for name in ("answers", "refused", "failed")),
        ]
        for row in rows
    ]
    head = [
        "callers",
        "passages",
        "of `rank_many`, by processor time",
        "answers",
        "429",
        "other errors",
    ]
    return table(head, lines)


def thread_rates(results: Path) -> dict[str, float]:
    """Passages for each second of a thread, by bundled model."""
    found = {row["name"].lower(): row["passages_per_second"] for row in rows_of(results, ONE_THREAD, load=REAL)}
    return {model: found[f"{model}, openvino int8"] for model in ("minilm-l6-v1", "minilm-cascade-v1")}


def scale_requests(results: Path) -> str:
    """Machines for many requests for each second."""
    served = rows_of(results, SERVE, server="gliclass-rerank")
    share = min(1.0, statistics.mean(row["processor_share"] for row in served))
    lines = []
    for model, rate in thread_rates(results).items():
        for passages in (20, 100):
            each = rate * share * LOAD / passages
            cores = REQUESTS_PER_S / each
            values = f"{rate:.0f}", f"{each:.2f}", f"{cores:,.0f}", f"{cores / CORES:,.0f}", f"{cores * DOLLARS:,.0f}"
            lines.append([f"`{model}`, {passages} passages", *values])
    head = "model, request|passages/s of a thread|requests/s of a core|cores|machines|dollars an hour"
    return table(head.split("|"), lines) + (
        "\nThe requests of a core are the passages of a thread (OpenVINO int8), by the server's share of "
        f"`rank_many` ({share:.0%}),\nat a load of {LOAD:.0%}. Machines have {CORES} cores at {DOLLARS} dollars each "
        "an hour; load, size and price are assumed.\n"
    )


def scale_rows(results: Path) -> str:
    """Core hours for a very large file."""
    (job,) = rows_of(results, BATCH, format=".jsonl")
    share, passages, width = min(1.0, job["processor_share"]), ROWS * PASSAGES_OF_ROW, job["bytes_per_passage"]
    size, speed = passages * width, job["driver_bytes_per_processor_s"]
    lines = []
    for model, rate in thread_rates(results).items():
        hours = passages / (rate * share) / 3600
        fed = speed / (rate * share * width)
        values = hours, hours / 1000 / 24, hours * DOLLARS, fed
        lines.append([f"`{model}`", *(f"{value:,.0f}" for value in values)])
    head = "model|core hours|days on 1,000 cores|dollars|cores that one driver feeds"
    return table(head.split("|"), lines) + (
        f"\nThe rows hold {size / 1e12:.0f} TB of text, {width:.0f} bytes a passage. A job's share of `rank_many` "
        f"is {share:.0%}, and the\ndriver of `batch --ray` reads and stores {speed / 1e6:.0f} MB for each second of "
        "its core.\n"
    )


def why(results: Path) -> str:
    """The case for and against."""
    found, peer = ndcg(results), CROSS_ENCODER
    certain = [row["collection"] for row in quality_rows(results) if row["scorer"] == peer and row["p"] < 0.05]
    means = [mean(found, scorer) for scorer in ("ours", peer)]
    better = [short(name) for name in certain if found[name, "ours"] > found[name, peer]]
    worse = [short(name) for name in certain if found[name, "ours"] < found[name, peer]]
    rates = {row["name"]: row["passages_per_second"] for row in rows_of(results, ONE_THREAD, load=REAL)}
    (long,) = rows_of(results, ONE_THREAD, load=EXAMPLES, name="shared_query, openvino int8")
    quicker = rates["minilm-cascade-v1, openvino int8"] / rates["ms-marco-MiniLM-L-12-v2, ONNX int8"]
    return (
        f"- **Speed**: {quicker:.1f}x the passages per second of ms-marco-MiniLM-L-12-v2 on one core "
        "(OpenVINO int8,\n  against its ONNX int8 file).\n"
        f"- **Judged examples beside the query**: with 512 tokens of them {long['ratios'][PAIRS_INT8]:.1f}x a "
        "cross-encoder of the same size, both in\n  int8 on OpenVINO: they are read once, not once a passage.\n"
        f"- **Quality**: mean nDCG@10 {means[0]:.3f} on {len(COLLECTIONS)} collections, that cross-encoder's "
        f"{means[1]:.3f}.\n  With p < 0.05 better on {' and '.join(better)}, worse on {' and '.join(worse)}.\n"
    )


def gpu_counts(results: Path) -> str:
    """Forward passes, launches, copies and waits of a call on a GPU."""
    every = json.loads((results / GPU_COUNTS).read_text(encoding="utf-8"))["cases"]
    cases = [case for case in every if (case["queries"], case["passages"]) in ((1, 100), (64, 20))]
    lines = [
        [case["model"], f"`{case['plan']}`", case["attention"], f"{case['queries']} x {case['passages']}"]
        + [f"{case[name]:,}" for name in ("forwards", "launches", "copies_in", "syncs")]
        + [f"{case['tokens_computed'] / case['tokens_real']:.2f}"]
        for case in cases
    ]
    head = "network|plan|attention|queries x passages|forwards|launches|copies in|waits|tokens computed / real"
    return table(head.split("|"), lines)


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


TABLES: Final[Mapping[str, Table]] = {
    "why": why,
    "quality": quality,
    "quality-in-full": quality_in_full,
    "speed": speed,
    "speed-one-thread": throughput(ONE_THREAD, REAL),
    "speed-two-threads": throughput(TWO_THREADS, REAL),
    "speed-with-amx": throughput(WITH_AMX, REAL),
    "speed-long-lists": throughput(LONG_LISTS, LONG),
    "speed-examples": throughput(ONE_THREAD, EXAMPLES),
    "memory": memory,
    "gpu-counts": gpu_counts,
    "long-passages": long_passages,
    "serve": serve,
    "scale-requests": scale_requests,
    "scale-rows": scale_rows,
    "calibration": calibration,
    "unseen": unseen,
    "spans": spans,
}


def measured(results: Path) -> str:
    """Quality and speed of the bundled models, for the command line."""
    scorers = {"minilm-l6-v1": "minilm-l6-v1", "minilm-cascade-v1": "ours"}
    found = {(row["scorer"], row["collection"]): row["ndcg@10, 100"] for row in rows_of(results, QUALITY[0])}
    rates = {row["name"].lower(): row["passages_per_second"] for row in rows_of(results, ONE_THREAD, load=REAL)}
    environment = json.loads((results / ONE_THREAD).read_text(encoding="utf-8"))["environment"]
    figures = {
        "machine": f"{environment['machine']}, {environment['threads']} thread",
        "ndcg@10": {
            model: {name: round(found[scorer, name], 3) for name in COLLECTIONS if (scorer, name) in found}
            for model, scorer in scorers.items()
        },
        "passages_per_second": {
            model: {
                runtime: round(rates[f"{model}, {name}".lower()])
                for runtime, name in RUNTIMES.items()
                if f"{model}, {name}".lower() in rates
            }
            for model in scorers
        },
    }
    return json.dumps(figures, indent=2) + "\n"


def filled(text: str, results: Path) -> str:
    """A document with its tables made anew."""
    return MARKED.sub(lambda found: found["open"] + TABLES[found["name"]](results) + found["close"], text)


def documents(root: Path) -> list[Path]:
    """What may hold tables."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def made_anew(root: Path) -> dict[Path, str]:
    """Every generated file with what the results make of it."""
    results = root / "benchmarks" / "results"
    made = {path: filled(path.read_text(encoding="utf-8"), results) for path in documents(root)}
    if (root / BUNDLED).is_dir():
        made[root / MEASURED] = measured(results)
    return made


def stale(root: Path = ROOT) -> list[Path]:
    """Files that are not what the results say."""
    return [
        path for path, text in made_anew(root).items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main() -> None:
    """Write the generated files, or say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file differs")
    differing = stale()
    if parser.parse_args().check:
        sys.exit("\n".join(f"{path.relative_to(ROOT)} differs; run `make docs-tables`" for path in differing) or None)
    made = made_anew(ROOT)
    for path in differing:
        path.write_text(made[path], encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
