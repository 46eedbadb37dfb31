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
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import tables_of_cost
import tables_of_quality
from table_parts import Table, rows_of
from tables_of_cost import EXAMPLES, ONE_THREAD, PAIRS_INT8, REAL, RUNTIMES
from tables_of_quality import COLLECTIONS, CROSS_ENCODER, QUALITY, mean, ndcg, quality_rows, short

ROOT: Final = Path(__file__).parents[1]
MARKED: Final = re.compile(r"(?P<open><!-- table: (?P<name>\S+) -->\n).*?(?P<close><!-- end -->)", re.DOTALL)
BUNDLED: Final = "gliclass_rerank/bundled"
MEASURED: Final = f"{BUNDLED}/measured.json"


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


TABLES: Final[Mapping[str, Table]] = {"why": why, **tables_of_quality.TABLES, **tables_of_cost.TABLES}


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
