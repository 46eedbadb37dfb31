"""Judged examples: do they make answers better? What they cost, `bench_throughput.py` says.

    python benchmarks/bench_rac.py classification --data CLASSIFY_FOLDER [--regimes standard few_shot weak]
    python benchmarks/bench_rac.py ranking --data RERANK_FOLDER ...

Classification and ranking measure the same test texts without examples and with 1, 2 and 3 out of the set's own
`train` split (`ranking --judged others`: out of the other queries of the split that is measured), chosen in three ways
(`shown_examples.py`): similar ones, and two controls. Texts are evenly spread over a file, everything random follows
from `--seed`. p: two-sided paired randomisation test against no examples (of nDCG@10;
in classification of the accuracy, because macro-F1 is no mean over texts).

A "hint" is an example that names a label of the very text that is asked about, or a passage that is relevant to it:
the share of hints is how much there is to copy.

Every regime and control reads the result of one search, so examples are passed by hand: they are those that
`example_store=` would show. What a search costs is measured by `bench_rac_store.py`.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import rac_classification
import rac_ranking
import torch
from harness import print_json
from shown_examples import choose, print_table

from gliclass_rerank import Reranker
from gliclass_rerank.examples import LocalEncoder


def main() -> None:
    """Print a table and one JSON line."""
    arguments = parser().parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.threads = torch.get_num_threads()
    quality({"classification": rac_classification, "ranking": rac_ranking}[arguments.command], arguments)


def quality(kind: ModuleType, arguments: argparse.Namespace) -> None:
    """Measure all sets of one kind; those that are not there are named."""
    started = time.monotonic()
    wanted = arguments.sets or kind.SETS
    folders = {name: data / name for data in arguments.data for name in wanted if (data / name).is_dir()}
    missing = [name for name in wanted if name not in folders]
    chooser = partial(
        choose,
        encoder=LocalEncoder(arguments.encoder, device=arguments.device),
        most=arguments.examples,
        min_similarity=arguments.min_similarity,
        seed=arguments.seed,
    )
    facts, rows = [], []
    for name in wanted:
        if name in folders:
            of_set, of_rows = kind.measure(folders[name], chooser, arguments)
            facts.append(of_set)
            rows += of_rows
    model = Reranker(arguments.model or kind.DEFAULT, device=arguments.device, backend=arguments.backend)
    runs = f"{model.backend} {model.dtype}"
    ran = {"model": model.name, "plan": model.plan, "device": str(model.device), "runs": runs, "store": "numpy"}
    print(f"{model.name}, {model.plan} on {model.device}, {runs}, {arguments.threads} threads, exact search (numpy)")
    print(f"not found: {', '.join(missing) or 'nothing'}\n")
    columns = list(facts[0]) if facts else []
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for fact in facts:
        print(f"| {' | '.join(f'{v:.2f}' if isinstance(v, float) else str(v) for v in fact.values())} |")
    if rows:
        print_table(kind.FIGURE, rows, most=arguments.examples)
    result = {"benchmark": f"rac {arguments.command}", "rows": rows, "sets": facts, "missing": missing, **ran}
    print_json({**result, "settings": settings(arguments), "seconds": round(time.monotonic() - started)})


def settings(arguments: argparse.Namespace) -> dict[str, object]:
    """The arguments as JSON, without the folders, which are this machine's."""
    return {name: value for name, value in vars(arguments).items() if name != "data"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = found.add_subparsers(dest="command", required=True)
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("--threads", type=int)
    both.add_argument("--data", type=Path, nargs="+", required=True, help="folders of sets")
    both.add_argument("--sets", nargs="+", help="names of sets  [default: those that the project reports]")
    both.add_argument("--model", help="checkpoint in place of the bundled one")
    both.add_argument("--encoder", default="bundled", help="folder of the store's encoder")
    both.add_argument("--limit", type=int, help="test texts or queries of a set at most")
    both.add_argument("--pool", type=int, default=20_000, help="examples of a store at most")
    both.add_argument("--examples", type=int, default=3, help="how many are shown at most")
    both.add_argument("--min-similarity", type=float, default=0.5, help="the least cosine of a similar example")
    both.add_argument("--max-example-tokens", type=int, help="budget of the examples  [default: what the query leaves]")
    both.add_argument("--device")
    both.add_argument(
        "--backend", choices=["auto", "torch", "onnx", "openvino"], default="torch", help="[default: torch]"
    )
    both.add_argument("--seed", type=int, default=0)
    classification = commands.add_parser("classification", parents=[both])
    classification.add_argument("--regimes", nargs="+", choices=rac_classification.REGIMES, default=["standard"])
    classification.add_argument("--example-format", choices=["rac", "few_shot"], help="[default: the checkpoint's]")
    classification.add_argument("--shots", type=int, default=8, help="texts a label for fine-tuning")
    classification.add_argument("--unlabelled", type=int, default=1000, help="texts that the model labels itself")
    ranking = commands.add_parser("ranking", parents=[both])
    ranking.add_argument("--judged", choices=rac_ranking.JUDGED, default="train", help="whose judgements are shown")
    ranking.add_argument("--depth", type=int, default=100, help="candidates of a query at most")
    return found


if __name__ == "__main__":
    main()
