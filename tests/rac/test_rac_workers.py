"""Four workers that know nothing of each other rank with one store and learn; two are killed at any moment."""

import os
import random
import signal
import sqlite3
import time
from contextlib import suppress

import pytest
from forked import Child
from rac_data import ENCODER

from gliclass_rerank import Reranker, RerankStage
from gliclass_rerank.examples import ExampleStore
from gliclass_rerank.examples.store_schema import STORE_SCHEMA

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
PASSAGES = ["Replace the chain.", "Ring the bell.", "Oil the lock."]
LAST = "what the parent asks at the end"


class Worker:
    """A process that opens the store by its path, gives feedback and ranks until it is told to end.

    Args:
        model: Checkpoint.
        opened: Opens the store, or gives its path.
        name: Prefix of its queries.
        over: File that ends it.
    """

    def __init__(self, model, opened, name, over):
        self._pipe, writing = os.pipe()
        self._child = Child(lambda: self._work(writing, model, opened, name, over))
        os.close(writing)
        self._first = os.read(self._pipe, 100)  # it does write

    @staticmethod
    def _work(writing, model, opened, name, over):
        reranker = Reranker(model, device="cpu", backend="torch", example_store=opened())
        stage = RerankStage(reranker=reranker, on_error="keep_order")
        errors, number = [], 0
        while not over.exists():
            query = f"{name} asks {number}"
            reranker.feedback(query, relevant=PASSAGES[:1], irrelevant=PASSAGES[1:2])
            os.write(writing, f"{query}\n".encode())
            ranking = stage.run(query, PASSAGES)
            errors += [ranking.error] if ranking.error or ranking[0].judged != "relevant" else []
            number += 1
        last = stage.run(LAST, PASSAGES)
        return [errors, last.error, [hit.judged for hit in last]]

    def kill(self):
        os.kill(self._child.pid, signal.SIGKILL)

    def result(self):
        """Queries that it acknowledged, and what it returned; None if it was killed."""
        said = self._child.result(120)
        acknowledged = self._first + b"".join(iter(lambda: os.read(self._pipe, 65536), b""))
        os.close(self._pipe)
        return acknowledged.decode().split("\n")[:-1], None if said == ["died", None] else said


def work_together(model, opened, folder, chance, prefix=""):
    """One round; returns the queries that were acknowledged."""
    over = folder / f"{prefix}over"
    workers = [Worker(model, opened, f"{prefix}{name}", over) for name in "abcd"]
    killed = chance.sample(workers, 2)
    for worker in killed:
        time.sleep(chance.uniform(0, 0.2))
        worker.kill()
    reranker = Reranker(model, device="cpu", backend="torch", example_store=opened())
    before = len(reranker.example_store)
    while len(reranker.example_store) < before + 6:  # those that are left go on
        time.sleep(0.01)
    reranker.feedback(LAST, relevant=PASSAGES[2:], irrelevant=PASSAGES[:1])
    over.touch()
    results = {worker: worker.result() for worker in workers}

    assert all(results[worker][1] is None for worker in killed)
    left = [results[worker][1] for worker in workers if worker not in killed]
    assert left == [["done", [[], None, ["relevant", None, "irrelevant"]]]] * 2
    acknowledged = {query for queries, _ in results.values() for query in queries}
    stored = {one.example.text: one.example for one in reranker.example_store}
    assert acknowledged <= stored.keys()
    assert all(stored[query].true_labels == (PASSAGES[0],) for query in acknowledged)
    begun = {query for query in stored if query.startswith(prefix)} - acknowledged - {LAST}
    assert len(begun) <= len(killed)  # and never acknowledged
    reranker.example_store.close()
    return acknowledged


def test_four_workers_share_a_store_and_two_are_killed(tiny_folders, tmp_path):
    def opened():
        return ExampleStore(tmp_path / "f.db", ENCODER)

    assert len(work_together(tiny_folders["bert"], opened, tmp_path, random.Random(1))) >= 10


@pytest.mark.slow
def test_forty_killed_workers_lose_nothing_and_stop_nobody(tiny_folders, tmp_path):
    """As an adapter opens it: by the path, with the bundled encoder."""
    chance, acknowledged = random.Random(2), set()
    for turn in range(20):
        model, path = tiny_folders["bert"], tmp_path / "f.db"
        acknowledged |= work_together(model, lambda path=path: path, tmp_path, chance, f"{turn}-")

    with ExampleStore(path) as store:
        assert acknowledged <= {stored.example.text for stored in store}


def test_a_store_made_while_its_file_is_read_is_no_foreign_file(tmp_path):
    reader, maker = (sqlite3.connect(tmp_path / "judged.db", timeout=0, isolation_level=None) for _ in range(2))

    def make(statement):
        if "sqlite_master" in statement:
            with suppress(sqlite3.OperationalError):  # it has to wait
                maker.execute("BEGIN IMMEDIATE")
                STORE_SCHEMA.create(maker)
                maker.execute("COMMIT")

    reader.set_trace_callback(make)

    assert STORE_SCHEMA.found(reader, "the store") == 0
