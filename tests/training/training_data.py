"""Generated training data and tiny runs for the tests of `gliclass_rerank.learn.training`."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tiny_checkpoints import WORDS

from gliclass_rerank.learn.training import SourceConfig, StartConfig, TrainConfig


def write_lines(path: Path, records) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def ranking_records(count: int, *, seed: int = 0, num_passages: int = 5):
    """Records whose relevant passage repeats the query's words."""
    rng = random.Random(seed)
    records = []
    for _ in range(count):
        query = rng.sample(WORDS, 2)
        passages = [" ".join(rng.sample(WORDS, rng.randint(3, 6))) for _ in range(num_passages)]
        best = rng.randrange(num_passages)
        passages[best] = " ".join(query + rng.sample(WORDS, 2))
        grades = [int(index == best) for index in range(num_passages)]
        scores = [3.0 * grade + rng.random() for grade in grades]
        records.append(
            {"query": " ".join(query), "passages": passages, "grades": grades, "teacher_scores": {"oracle": scores}}
        )
    return records


def classification_records(count: int, labels=("brakes", "chain", "saddle"), *, seed: int = 0):
    """Texts that name their label."""
    rng = random.Random(seed)
    records = []
    for _ in range(count):
        label = rng.choice(labels)
        words = [*rng.sample(WORDS, 4), label]
        rng.shuffle(words)
        records.append({"text": " ".join(words), "labels": [label]})
    return records


def tiny_run(output: Path, model: Path, data: Path, **changes) -> TrainConfig:
    """A run of a few small steps on ranking records."""
    values = {
        "output": output,
        "sources": (SourceConfig(path=data, kind="ranking", max_candidates=4),),
        "start": StartConfig(model=str(model)),
        "steps": 6,
        "queries_per_step": 2,
        "encoder_learning_rate": 3e-3,
        "head_learning_rate": 3e-3,
        "checkpoint_every": 2,
        "threads": 1,
        "device": "cpu",
        "plot": False,
        **changes,
    }
    return TrainConfig(**values)
