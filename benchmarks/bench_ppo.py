"""Question: does PPO help a classifier: after supervised training, with few labels, or with right and wrong alone?

    python benchmarks/bench_ppo.py --data CLASSIFY_FOLDER... [--sets NAME...] [--shots N...] [--arms NAME...]

Arms begin with the bundled model and see the same texts, so many a label:
- `start`: that model itself;
- `supervised`: binary cross-entropy; `supervised, twice as long` is the control for the steps of a second stage;
- `then PPO`: a PPO stage after it, rewards label by label;
- `PPO alone`: no supervised stage;
- `bandit`: one sampled set a text, and only whether it was right (`accuracy`, running mean as the baseline);
- ablations of `PPO alone`: without clip, divergence or baseline.

Macro-F1 on evenly spread test texts. Full weights but the embeddings; weights are thrown away. Rows that `--out` has
already are not measured again, so that a run can be stopped, and extended by more arms.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import environment, print_json

from gliclass_rerank.learn.training import DevConfig, LossConfig, SourceConfig, StartConfig, TrainConfig, train
from gliclass_rerank.learn.training.curves import read_rows
from gliclass_rerank.learn.training.ppo_config import PpoConfig

Row = dict[str, Any]
NO_CLIP = 1e6
KEYS = ("set", "shots", "seed", "arm")
SETTINGS = ("limit", "epochs", "learning_rate", "frozen_layers", "tokens", "precision")
PPO: dict[str, PpoConfig] = {
    "PPO alone": PpoConfig(),
    "bandit": PpoConfig(reward="accuracy", samples=1, baseline="running"),
    "PPO without clip": PpoConfig(clip=NO_CLIP),
    "PPO without divergence": PpoConfig(kl_weight=0),
    "PPO without baseline": PpoConfig(baseline="none"),
}
START, SUPERVISED, LONGER, THEN = "start", "supervised", "supervised, twice as long", "then PPO"
ARMS = (START, SUPERVISED, LONGER, THEN, *PPO)


def run(config: TrainConfig) -> float:
    """Train, and return the last macro-F1."""
    train(config)
    (name,) = [f"{dev.title}.macro_f1" for dev in config.dev]
    return read_rows(config.output / "dev.csv")[-1][name]


def measure(arm: str, base: TrainConfig, scratch: Path) -> float:
    """Macro-F1 of an arm."""
    if arm == START:  # one step that changes nothing
        return run(
            replace(base, output=scratch / "start", epochs=None, steps=1, head_learning_rate=0, encoder_learning_rate=0)
        )
    if arm in PPO:
        return run(replace(base, output=scratch / "ppo", objective="ppo", ppo=PPO[arm]))
    epochs = (base.epochs or 0) * (2 if arm == LONGER else 1)
    first = replace(base, output=scratch / "supervised", epochs=epochs)
    figure = run(first)
    if arm != THEN:
        return figure
    start = StartConfig(model=str(first.output / "last"))
    return run(replace(base, output=scratch / "ppo", start=start, objective="ppo"))


def base_config(folder: Path, shots: int, seed: int, arguments: argparse.Namespace) -> TrainConfig:
    """Config that the arms share."""
    source = SourceConfig(path=folder, kind="classification", shots=shots, losses=(LossConfig(name="bce"),))
    dev = DevConfig(path=folder, kind="classification", split="test", limit=arguments.limit, name="test")
    return TrainConfig(
        output=Path("replaced"),
        sources=(source,),
        dev=(dev,),
        epochs=arguments.epochs,
        queries_per_step=8,
        encoder_learning_rate=arguments.learning_rate,
        head_learning_rate=arguments.learning_rate,
        freeze_embeddings=True,
        frozen_layers=arguments.frozen_layers,
        precision=arguments.precision,
        seed=seed,
        threads=arguments.threads,
        max_window_tokens=arguments.tokens,
        checkpoint_every=1000,
        plot=False,
    )


def main() -> None:
    """Print one JSON line; rows are kept in `--out` as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--sets", nargs="+", default=["ag_news", "trec", "sst5", "tweet_emotion"])
    parser.add_argument("--shots", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--limit", type=int, default=300, help="test texts of a set")
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--frozen-layers", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = {key: getattr(arguments, key) for key in SETTINGS}
    rows: list[Row] = json.loads(arguments.out.read_text("utf-8"))["rows"] if arguments.out.exists() else []
    known = {tuple(row[key] for key in KEYS) for row in rows}
    runs = itertools.product(arguments.sets, arguments.shots, arguments.seeds, arguments.arms)
    for name, shots, seed, arm in runs:
        if (name, shots, seed, arm) in known:
            continue
        folder = next(data / name for data in arguments.data if (data / name).is_dir())
        started = time.process_time()
        with tempfile.TemporaryDirectory() as scratch:
            figure = measure(arm, base_config(folder, shots, seed, arguments), Path(scratch))
        seconds = round(time.process_time() - started, 1)
        rows.append(dict(zip(KEYS, (name, shots, seed, arm), strict=True)) | {"macro_f1": figure, "cpu_s": seconds})
        print(rows[-1], flush=True)
        result = {"environment": environment(), "benchmark": "ppo", "settings": settings, "rows": rows}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_json({"benchmark": "ppo", "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
