"""Processes that log are killed at any moment: nothing acknowledged is lost, nothing is half there."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "rac"))
from forked import Child

from gliclass_rerank.feedback import FeedbackLog, LoggedRanking, ShownPassage
from gliclass_rerank.feedback.entries import now

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
NUM_PASSAGES = 20


def write(path, writing, name):
    with FeedbackLog(path) as log:
        for number in range(10**6):
            shown = [ShownPassage(index, 1.0, 0.5, f"{name} {number} {index}") for index in range(NUM_PASSAGES)]
            log.add([LoggedRanking(f"{name}-{number}", now(), "m", "query", tuple(shown))])
            os.write(writing, f"{name}-{number}\n".encode())
            log.clicks(f"{name}-{number}", [number % NUM_PASSAGES, 0])
            os.write(writing, f"{name}-{number} clicked\n".encode())


def kill_writers(path, times, seed):
    """Two writers at once, again and again; returns what they acknowledged."""
    chance, said = random.Random(seed), set()
    for turn in range(times):
        children = []
        for name in (f"{turn}a", f"{turn}b"):
            reading, writing = os.pipe()
            child = Child(lambda writing=writing, name=name: write(path, writing, name))
            os.close(writing)
            children.append((child, reading, os.read(reading, 100)))  # it does write
        for child, reading, first in children:
            time.sleep(chance.uniform(0, 0.05))
            os.kill(child.pid, signal.SIGKILL)
            assert child.result() == ["died", None]
            rest = b"".join(iter(lambda reading=reading: os.read(reading, 65536), b""))
            os.close(reading)
            said |= set((first + rest).decode().split("\n")[:-1])
        with FeedbackLog(path) as log:
            rankings = {one.id: one for one in log.rankings()}
            assert all([passage.text for passage in one.shown] == texts(one.id) for one in rankings.values())
            clicked = [one.ranking_id for one in log.signals()]
            assert {entry for entry in said if " " not in entry} <= rankings.keys()
            for entry in said:
                if entry.endswith(" clicked"):
                    assert clicked.count(entry.removesuffix(" clicked")) in (1, 2)  # one if both are the same
    return said


def texts(name):
    prefix, _, number = name.partition("-")
    return [f"{prefix} {number} {index}" for index in range(NUM_PASSAGES)]


def test_killed_writers_lose_nothing_they_acknowledged(tmp_path):
    assert len(kill_writers(tmp_path / "feedback.db", 3, seed=1)) >= 6


@pytest.mark.slow
def test_a_hundred_killed_writers_lose_nothing_they_acknowledged(tmp_path):
    assert len(kill_writers(tmp_path / "feedback.db", 50, seed=2)) > 500
