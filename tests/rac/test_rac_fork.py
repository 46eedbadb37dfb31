"""A process that has a store open is forked: nobody hangs, nothing acknowledged is lost, and the family shares it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from forked import Child
from rac_data import ENCODER, CallableEncoder, bag_of_words

from gliclass_rerank import Example
from gliclass_rerank.examples import ExampleStore, LocalEncoder

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    # Python 3.12 warns of what is tested here.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
ROOT = Path(__file__).parents[2]


def texts(store):
    return sorted(stored.example.text for stored in store)


@pytest.mark.parametrize("backend", ["numpy", "faiss_hnsw"])
def test_parent_and_child_take_turns(opened, backend):
    if backend != "numpy":
        pytest.importorskip("faiss")
    store = opened(backend=backend)
    store.add([Example("before the fork")])

    def work():
        store.add([Example("of the child")])
        return [texts(store), [found.example.text for found in store.search("of the child", k=1)]]

    assert Child(work).result() == ["done", [["before the fork", "of the child"], ["of the child"]]]
    assert [found.example.text for found in store.search("of the child", k=1)] == ["of the child"]
    store.add([Example("of the parent")])
    assert Child(lambda: texts(store)).result()[1] == ["before the fork", "of the child", "of the parent"]


def test_a_grandchild_shares_too(opened):
    store = opened()

    def work():
        store.add([Example("child")])
        return Child(lambda: store.add([Example("grandchild")], ids=["x"])).result()

    assert Child(work).result() == ["done", ["done", ["x"]]]
    assert texts(store) == ["child", "grandchild"]


def test_judgements_of_one_query_by_several_processes_are_all_kept(opened):
    store, count = opened(), 12

    def judge(name):
        for number in range(count):
            store.add_judgements(Example("one query", [f"{name} {number}"]))
        return name

    children = [Child(lambda name=name: judge(name)) for name in ("a", "b")]
    judge("parent")

    assert [child.result() for child in children] == [["done", "a"], ["done", "b"]]
    (kept,) = store
    wanted = {f"{name} {number}" for name in ("a", "b", "parent") for number in range(count)}
    assert set(kept.example.true_labels) == wanted


def test_others_may_join_the_family(opened, tmp_path):
    store, path = opened(), tmp_path / "judged.db"
    store.add([Example("x")])

    assert elsewhere(path) == "1"
    assert Child(lambda: [elsewhere(path), store.add([Example("y")], ids=["y"])]).result() == ["done", ["1", ["y"]]]
    assert elsewhere(path) == "2"


def test_a_child_that_is_killed_while_it_writes_harms_nobody(opened):
    store = opened()
    store.add([Example("first")])

    def write():
        while True:
            store.add([Example("of the child", ["label"] * 50)])

    for _ in range(3):
        child = Child(write)
        time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        assert child.result() == ["died", None]
        before = len(store)
        store.add([Example("of the parent")])
        assert len(store) == before + 1


def test_nobody_starves_while_another_writes_without_a_pause(opened):
    store = opened()
    store.add([Example("first")])

    def write():
        while True:
            store.add([Example("of the child")])

    child = Child(write)
    try:
        start = time.monotonic()
        for number in range(10):
            store.add([Example(f"of the parent {number}")])
            assert store.search(f"parent {number}", k=1)
        assert time.monotonic() - start < 20  # a few milliseconds each, without fairness half a minute
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.result()


def test_readers_share_with_their_children(opened):
    with opened() as store:
        store.add([Example("x")])
    reader = opened(read_only=True)

    assert Child(lambda: texts(reader)).result() == ["done", ["x"]]
    assert Child(lambda: reader.delete([])).result()[0] == "InputError"
    with opened() as writer:
        writer.add([Example("y")])
    assert texts(reader) == ["x", "y"]


def test_a_store_in_memory_is_copied(store):
    store.add([Example("x")])

    assert Child(lambda: [store.add([Example("y")], ids=["y"]), texts(store)]).result() == ["done", [["y"], ["x", "y"]]]
    assert texts(store) == ["x"]


def test_what_a_child_closes_stays_open_in_the_parent(opened):
    store = opened()

    def work():
        store.add([Example("x")])
        store.close()
        return store.is_closed

    assert Child(work).result() == ["done", True]
    assert not store.is_closed
    assert texts(store) == ["x"]


def test_locks_are_free_in_a_child_whoever_held_them():
    """The fork comes while another thread embeds, searches and writes."""
    inside, go_on = threading.Event(), threading.Event()

    def encode(given):
        if given == ["slow"] and os.getpid() == parent:
            inside.set()
            go_on.wait(30)
        return bag_of_words(given)

    parent = os.getpid()
    store = ExampleStore(None, CallableEncoder(encode, name="slow"), backend="numpy")
    # Embeds as the writer: it holds the writer's lock.
    thread = threading.Thread(target=store.add_judgements, args=(Example("slow"),))
    thread.start()
    assert inside.wait(30)
    try:
        result = Child(lambda: store.add_judgements(Example("quick"), id="quick")).result(20)
    finally:
        go_on.set()
        thread.join()

    assert result == ["done", "quick"]
    assert texts(store) == ["slow"]
    store.close()


def test_nobody_waits_for_threads_that_are_gone(tmp_path):
    """Forks at any moment while a real encoder embeds and the store writes."""
    fork_again_and_again(tmp_path / "judged.db", times=5)


@pytest.mark.slow
def test_nobody_waits_for_threads_that_are_gone_in_100_forks(tmp_path):
    fork_again_and_again(tmp_path / "judged.db", times=100)


def fork_again_and_again(path, times):
    acknowledged, is_over = [], threading.Event()
    with ExampleStore(path, LocalEncoder(device="cpu"), backend="numpy") as store:

        def write():
            number = 0
            while not is_over.is_set():
                acknowledged.extend(store.add([Example(f"of a thread, number {number}")]))
                store.search("number")
                number += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for turn in range(times):
                time.sleep(0.003 * (turn % 7))
                result = Child(lambda turn=turn: work(store, turn)).result(60)
                assert result == ["done", [f"child-{turn}"]], turn
        finally:
            is_over.set()
            thread.join()
        assert {stored.id for stored in store} == {*acknowledged, *(f"child-{turn}" for turn in range(times))}
        assert len(acknowledged) > times


def work(store, turn):
    store.search("of a child", k=2)
    return store.add([Example(f"of child {turn}")], ids=[f"child-{turn}"])


def test_a_store_that_nobody_holds_is_not_kept_for_forks(tmp_path):
    from gliclass_rerank.calls import fork_hooks

    before = len(fork_hooks._known)
    store = ExampleStore(tmp_path / "judged.db", ENCODER)
    assert len(fork_hooks._known) > before
    del store
    assert len(fork_hooks._known) == before


def elsewhere(path):
    program = (
        "from rac_data import ENCODER\nfrom gliclass_rerank.errors import DataError\n"
        "from gliclass_rerank.examples import ExampleStore\n"
        f"try:\n    print(len(ExampleStore({str(path)!r}, ENCODER, backend='numpy')))\n"
        "except DataError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()
