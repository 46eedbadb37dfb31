"""A store on the disk: what is there when it is opened again, and in other processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rac_data import EXAMPLES, IDS, assert_in_step, fill

from gliclass_rerank import Example
from gliclass_rerank.errors import DataError


def test_what_was_written_is_there_again(opened, backend):
    fill(opened, backend=backend)

    with opened(backend=backend) as store:
        assert_in_step(store, IDS)
        assert store.get("07").metadata == {"number": 7}
        store.delete(IDS[:3])
        store.update(["05"], [Example("a bell")])
    with opened(backend=backend) as store:
        assert [stored.id for stored in store] == [*IDS[3:5], *IDS[6:], "05"]
        assert [one.id for one in store.search("a bell", k=1)] == ["05"]


def test_a_store_can_be_opened_with_any_backend(opened):
    pytest.importorskip("faiss")
    fill(opened, backend="faiss_hnsw")
    for backend in ("numpy", "faiss", "faiss_hnsw", "auto", "faiss_ivf_pq"):
        with opened(backend=backend) as store:
            assert_in_step(store, IDS)


class Interrupted(BaseException):
    """As Ctrl-C: at any moment, and no `Exception`."""


@pytest.mark.parametrize("moment", ["before commit", "after commit", "in the index"])
def test_a_change_that_was_interrupted_leaves_store_and_index_in_step(opened, backend, monkeypatch, moment):
    store = opened(backend=backend)
    store.add(EXAMPLES[:20], ids=IDS[:20])
    index = store._index.using(lambda held: held)

    def interrupt(*args, **kwargs):
        raise Interrupted

    with monkeypatch.context() as patch:
        if moment == "before commit":
            patch.setattr("gliclass_rerank.examples.changes.to_blob", interrupt)
        elif moment == "after commit":
            write = store._records.write
            patch.setattr(store._records, "write", lambda change: (write(change), interrupt()))
        else:
            patch.setattr(index, "add", interrupt)
        with pytest.raises(Interrupted):
            store.add(EXAMPLES[20:25], ids=IDS[20:25])

    assert_in_step(store, IDS[:20] if moment == "before commit" else IDS[:25])
    store.add(EXAMPLES[25:30], ids=IDS[25:30])
    store.close()
    with opened(backend=backend) as again:
        assert len(again) == len(list(again)) == (25 if moment == "before commit" else 30)


def test_a_full_disk_is_an_error_and_changes_nothing(opened):
    store = opened()
    store.add(EXAMPLES[:20], ids=IDS[:20])
    with store._records.database.transaction() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(DataError, match=r"the store `.*` cannot be used: database or disk is full"):
        store.add([Example("a" * 10**6)])

    assert_in_step(store, IDS[:20])
    store.delete(IDS[:1])
    assert_in_step(store, IDS[1:20])


# By whom a store can be opened


def in_another_process(path, action, **options):
    code = (
        "from rac_data import ENCODER\nfrom gliclass_rerank import Example\n"
        "from gliclass_rerank.examples import ExampleStore\n"
        f"with ExampleStore({str(path)!r}, ENCODER, backend='numpy', **{options}) as store:\n    {action}"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_processes_share_a_store_and_each_sees_what_the_others_write(opened, path, backend):
    with opened(backend=backend) as store:
        store.add(EXAMPLES[:40], ids=IDS[:40])
        assert (
            in_another_process(path, "print(len(store), store.search('the chain of number 0', k=1)[0].id)") == "40 00"
        )
        change = "store.delete(['03']); store.update(['04'], [Example('b')])"
        assert in_another_process(path, f"print(store.add([Example('a bell')], ids=['bell'])); {change}") == "['bell']"

        assert_in_step(store, [*IDS[:3], *IDS[5:40], "bell", "04"])
        store.add(EXAMPLES[40:41], ids=IDS[40:41])
        assert in_another_process(path, "print(len(store))", read_only=True) == "41"


def test_a_store_can_be_open_twice_in_one_process(opened):
    one, other = opened(), opened()
    one.add(EXAMPLES[:2], ids=IDS[:2])

    assert_in_step(other, IDS[:2])
    before = one.version
    other.delete(IDS[:1])
    assert one.version == other.version != before
    assert_in_step(one, IDS[1:2])


def test_readers_see_what_is_written_meanwhile(opened, path):
    fill(opened)
    with opened(read_only=True) as one:
        assert in_another_process(path, "print(len(store.search('the chain')))", read_only=True) == "3"
        assert in_another_process(path, "print(store.add([Example('a')], ids=['a']))") == "['a']"
        assert_in_step(one, [*IDS, "a"])


def test_an_index_follows_more_removals_than_the_store_remembers(opened, monkeypatch):
    monkeypatch.setattr("gliclass_rerank.examples.changes._NUM_REMOVALS", 3)
    one, other = opened(), opened()
    one.add(EXAMPLES, ids=IDS)
    assert_in_step(other, IDS)

    one.delete(IDS[:5])

    assert_in_step(other, IDS[5:])
