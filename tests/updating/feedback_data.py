"""Generated feedback of users who know which passage repeats a query's words."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tiny_checkpoints import WORDS

from gliclass_rerank.feedback import FeedbackLog, LoggedRanking, ShownPassage

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from training_data import ranking_records


def judged_log(path: Path, count: int, *, seed: int = 0) -> Path:
    """A log of grades by users who are never wrong."""
    return _written(path, count, seed, lambda log, name, right, others: log.graded(name, {right: 1, others[0]: 0}))


def clicked_log(path: Path, count: int, *, seed: int = 0) -> Path:
    """A log of clicks by users who look at everything and are never wrong."""
    return _written(path, count, seed, lambda log, name, right, _: log.clicks(name, [right]))


def random_log(path: Path, count: int, *, seed: int = 0) -> Path:
    """A log of grades by chance."""
    rng = random.Random(seed)
    return _written(path, count, seed, lambda log, name, _, others: log.graded(name, {rng.choice(others): 1}))


def _written(path: Path, count: int, seed: int, act) -> Path:
    rng = random.Random(seed)
    with FeedbackLog(path) as log:
        for number, record in enumerate(ranking_records(count, seed=seed, num_passages=6)):
            shown = [
                ShownPassage(index, rng.gauss(0, 1), 0.5, passage) for index, passage in enumerate(record["passages"])
            ]
            right = record["grades"].index(1)
            log.add([LoggedRanking(f"r{number}", 1.0 + number, "tiny@1", record["query"], tuple(shown))])
            act(log, f"r{number}", right, [index for index in range(len(shown)) if index != right])
    return path


__all__ = ["WORDS", "clicked_log", "judged_log", "random_log"]
