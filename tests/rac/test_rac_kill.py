"""A writing process is killed at random moments: nothing it has acknowledged is lost, and nothing is half there."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rac_data import ENCODER

from gliclass_rerank.examples import ExampleStore

ROOT = Path(__file__).parents[2]
MAX_LIFE_S = 0.15
# Share of the writers whose life is counted from the fork, so that some die while they open the store; that of the
# others is counted from their first change, so that they do write however busy the machine is.
SHARE_FROM_FORK = 0.25

pytest.importorskip("faiss")
if not hasattr(os, "fork"):
    pytest.skip("writers are forked", allow_module_level=True)


class Writers:
    """The program that forks writers."""

    def __init__(self):
        paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killed_writer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._read() == ["ready"]

    def _read(self):
        return json.loads(self._process.stdout.readline())

    def run_and_kill(self, path, backend, seed, life_s, *, from_fork=True):
        """Let a writer live for some time; returns what it began and finished."""
        self._process.stdin.write(f"{path}\t{backend}\t{seed}\n")
        self._process.stdin.flush()
        _, pid = self._read()
        events = [] if from_fork else [self._read()]
        time.sleep(life_s)
        os.kill(pid, signal.SIGKILL)
        while (event := self._read()) != ["dead"]:
            events.append(event)
        return events

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


@pytest.fixture(scope="module")
def writers():
    made = Writers()
    yield made
    made.close()


def applied(contents, change):
    new, deleted = change
    return {name: text for name, text in {**contents, **new}.items() if name not in deleted}


def replay(contents, events):
    """What must be in the store, and what may be instead if the last change got through."""
    pending = ({}, [])
    for kind, *change in events:
        if kind == "begin":
            pending = change
        else:
            contents, pending = applied(contents, pending), ({}, [])
    return contents, applied(contents, pending)


def kill_again_and_again(writers, path, backend, times, seed):
    chance = random.Random(seed)
    contents, num_events, num_pending = {}, 0, 0
    for turn in range(times):
        from_fork, life_s = chance.random() < SHARE_FROM_FORK, chance.uniform(0, MAX_LIFE_S)
        events = writers.run_and_kill(path, backend, 1000 * seed + turn, life_s, from_fork=from_fork)
        acknowledged, begun = replay(contents, events)
        num_events += len(events)
        num_pending += acknowledged != begun
        with ExampleStore(path, ENCODER, backend=backend) as store:
            there = {stored.id: stored.example for stored in store}
            contents = {name: example.text for name, example in there.items()}
            assert contents in (acknowledged, begun), f"turn {turn}"
            assert all(example.true_labels == (example.text,) for example in there.values())
            assert len(store) == len(contents)
            # The index holds the same rows, and finds each by its text.
            assert store._index.using(lambda index: index.rows()).tolist() == store._records.rows().tolist()
            found = store.search_many(list(contents.values()), k=2)
            assert all(
                name in {hit.id for hit in hits if hit.similarity == 1.0}
                for name, hits in zip(contents, found, strict=True)
            )
            rows = store._records.rows()
            stored_rows, vectors = store._records.vectors(rows)
            assert stored_rows.tolist() == rows.tolist()
            assert np.isfinite(vectors).all()
    return num_events, num_pending


@pytest.mark.parametrize("backend", ["numpy", "faiss_hnsw"])
def test_a_killed_writer_loses_nothing_it_acknowledged(writers, tmp_path, backend):
    num_events, _ = kill_again_and_again(writers, tmp_path / "judged.db", backend, times=6, seed=3)

    assert num_events >= 3  # the writers did write


def test_a_store_whose_making_was_killed_can_be_made(writers, tmp_path):
    for turn in range(6):
        path = tmp_path / f"{turn}.db"
        acknowledged, begun = replay({}, writers.run_and_kill(path, "numpy", turn, turn * 0.003))
        with ExampleStore(path, ENCODER, backend="numpy") as store:
            assert {stored.id: stored.example.text for stored in store} in (acknowledged, begun)


@pytest.mark.slow
def test_200_kills_lose_nothing_that_was_acknowledged(writers, tmp_path):
    num_events, num_pending = kill_again_and_again(writers, tmp_path / "judged.db", "faiss_hnsw", times=200, seed=7)

    assert num_events > 500
    assert num_pending > 20  # kills did hit changes under way
