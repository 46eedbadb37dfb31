"""A store on the disk: what is there when it is opened again, by whom it can be opened, and its index' file."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from forked import Child
from rac_data import ENCODER, bag_of_words, table_encoder

from gliclass_rerank import Example
from gliclass_rerank.errors import ConfigError, DataError, InputError
from gliclass_rerank.examples import CallableEncoder, ExampleStore
from gliclass_rerank.examples.faiss_index import FaissIndex

EXAMPLES = [Example(f"the {word} of number {number}", [word]) for number, word in enumerate(["chain", "brake"] * 40)]
IDS = [f"{number:02}" for number in range(len(EXAMPLES))]
BACKENDS = ("numpy", "faiss", "faiss_hnsw")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "judged.db"


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param != "numpy":
        pytest.importorskip("faiss")
    return request.param


@pytest.fixture
def built(monkeypatch):
    """Of how many vectors FAISS indexes are built from here on."""
    pytest.importorskip("faiss")
    sizes, build = [], FaissIndex.build
    monkeypatch.setattr(FaissIndex, "build", lambda kind, source: sizes.append(len(source)) or build(kind, source))
    return sizes


def fill(opened, **options):
    with opened(**options) as store:
        store.add(EXAMPLES, ids=IDS, metadata=[{"number": number} for number in range(len(EXAMPLES))])


def assert_in_step(store, ids):
    assert [stored.id for stored in store] == ids
    assert store._index.using(lambda index: index.rows()).tolist() == store._records.rows().tolist()
    for stored, (found, *_) in zip(store, store.search_many([one.example.text for one in store]), strict=True):
        assert (found.example.text, found.similarity) == (stored.example.text, 1.0)


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


def test_an_index_in_step_is_read_not_built(opened, path, built):
    fill(opened, backend="faiss_hnsw")
    assert built == [0]

    with opened(backend="faiss_hnsw") as store:
        assert_in_step(store, IDS)
    assert built == [0]


def test_a_stale_index_is_brought_up_to_date(opened, path, built):
    fill(opened, backend="faiss_hnsw")
    before = Path(f"{path}.index").read_bytes()
    with opened(backend="faiss_hnsw") as store:
        store.delete(IDS[10:15])
        store.add([Example("a bell"), Example("a horn")], ids=["bell", "horn"])
    Path(f"{path}.index").write_bytes(before)

    with opened(backend="faiss_hnsw") as store:
        assert_in_step(store, [*IDS[:10], *IDS[15:], "bell", "horn"])
    assert built == [0]
    with opened(backend="faiss_hnsw") as store:  # and was written
        assert_in_step(store, [*IDS[:10], *IDS[15:], "bell", "horn"])
    assert built == [0]


def test_an_index_that_lacks_most_is_built(opened, path, built):
    with opened(backend="faiss_hnsw") as store:
        store.add(EXAMPLES[:3], ids=IDS[:3])
        store.save_index()
        before = Path(f"{path}.index").read_bytes()
        store.add(EXAMPLES[3:], ids=IDS[3:])
    Path(f"{path}.index").write_bytes(before)

    with opened(backend="faiss_hnsw") as store:
        assert_in_step(store, IDS)
    assert built == [0, len(IDS)]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "text", "no header", "other format"])
def test_a_broken_index_is_built_anew(opened, path, built, damage):
    fill(opened, backend="faiss_hnsw")
    index = Path(f"{path}.index")
    raw = bytearray(index.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    broken = {"empty": b"", "cut": raw[: len(raw) // 2], "flipped": raw, "text": b"no index"}
    if damage == "missing":
        index.unlink()
    elif damage in broken:
        index.write_bytes(broken[damage])
    else:
        with zipfile.ZipFile(index, "w") as archive:
            archive.writestr("header.json" if damage == "other format" else "x", '{"format": 99, "kind": "hnsw"}')

    with opened(backend="faiss_hnsw") as store:
        assert_in_step(store, IDS)
    assert built == [0, len(IDS)]
    with opened(backend="faiss_hnsw"):  # a whole one was written
        assert built == [0, len(IDS)]


def test_the_index_of_another_store_is_not_believed(opened, path, tmp_path):
    pytest.importorskip("faiss")
    fill(opened, backend="faiss_hnsw")
    with opened(path=tmp_path / "other.db", backend="faiss_hnsw") as other:
        other.add(EXAMPLES[::-1], ids=IDS)
    Path(f"{path}.index").write_bytes((tmp_path / "other.db.index").read_bytes())

    with opened(backend="faiss_hnsw") as store:
        assert_in_step(store, IDS)


def test_an_index_newer_than_a_restored_store_is_not_believed(opened, path, tmp_path):
    pytest.importorskip("faiss")
    with opened(backend="faiss_hnsw") as store:
        store.add(EXAMPLES, ids=IDS)
        store.backup(tmp_path / "backup.db")
        store.delete(IDS[:5])
        store.add([Example("a bell")], ids=["bell"])
    path.write_bytes((tmp_path / "backup.db").read_bytes())

    with opened(backend="numpy") as store:  # does not touch the index' file
        store.add([Example("a horn")], ids=["horn"])
    with opened(backend="faiss_hnsw") as store:
        assert_in_step(store, [*IDS, "horn"])
        assert store.search("a bell", min_similarity=0.99) == []


def test_indexes_that_are_quick_to_build_are_not_kept(opened, path):
    pytest.importorskip("faiss")
    for backend in ("numpy", "faiss"):
        with opened(backend=backend) as store:
            store.add(EXAMPLES[:3])
        assert os.listdir(path.parent) == [path.name]


def test_an_index_that_cannot_be_written_costs_nothing_but_time(opened, path, caplog):
    pytest.importorskip("faiss")
    Path(f"{path}.index").mkdir()

    fill(opened, backend="faiss_hnsw")

    assert "could not be written" in caplog.text
    with opened(backend="faiss_hnsw") as store:
        assert_in_step(store, IDS)


def test_the_index_is_written_now_and_then(opened, path, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr("gliclass_rerank.examples.cached_index._MAX_UNSAVED", 20)
    store = opened(backend="faiss_hnsw")

    store.add(EXAMPLES[:20])
    assert not Path(f"{path}.index").exists()
    store.add(EXAMPLES[20:21])
    assert Path(f"{path}.index").exists()


def test_an_index_is_rebuilt_when_it_no_longer_suits(opened, built, monkeypatch):
    monkeypatch.setattr("gliclass_rerank.examples.faiss_index.FLAT_VECTORS", 10)
    store = opened(backend="faiss")
    store.add(EXAMPLES[:20], ids=IDS[:20])
    assert built == [0]

    store.add(EXAMPLES[20:25], ids=IDS[20:25])

    assert built == [0, 25]
    assert store._index.using(lambda index: index.kind) == "hnsw"
    assert_in_step(store, IDS[:25])


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


def test_a_store_of_the_first_format_is_converted(opened, path):
    fill(opened)
    connection = sqlite3.connect(path)
    connection.executescript(
        "DROP INDEX texts_by_digest; DROP TABLE texts; DROP TABLE removals; PRAGMA user_version = 1"
    )
    connection.close()

    with pytest.raises(DataError, match="has format 1; open it once without `read_only=True` to convert it"):
        opened(read_only=True)
    with opened() as store:
        assert_in_step(store, IDS)
        assert store.find_judgements([" THE chain of number 2"]) == [[EXAMPLES[2]]]
        store.delete(IDS[:1])
    with opened(read_only=True) as store:
        assert_in_step(store, IDS[1:])


def test_a_store_on_a_read_only_medium_can_be_read(opened, path, tmp_path):
    if os.getuid():
        pytest.skip("needs root, to become somebody who may not write")
    fill(opened)
    path.chmod(0o444)

    def read():
        os.setuid(65534)
        with opened(read_only=True) as store:
            return len(store.search("the chain"))

    above = takewhile(lambda folder: folder != Path(tempfile.gettempdir()), tmp_path.parents)
    folders = [tmp_path, *above]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert Child(read).result() == ["done", 3]
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_a_reader_changes_nothing(opened, path, backend):
    fill(opened, backend=backend)
    Path(f"{path}.index").unlink(missing_ok=True)
    before = path.read_bytes()

    with opened(backend=backend, read_only=True) as store:
        assert_in_step(store, IDS)
        for change in (
            lambda: store.add(EXAMPLES[:1]),
            lambda: store.update(IDS[:1], EXAMPLES[1:2]),
            lambda: store.delete(IDS[:1]),
            store.save_index,
        ):
            with pytest.raises(InputError, match="the store was opened with `read_only=True`, it cannot be changed"):
                change()

    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before


def test_a_reader_needs_a_store(opened, tmp_path):
    with pytest.raises(DataError, match=r"there is no store `.*judged.db`"):
        opened(read_only=True)
    with pytest.raises(InputError, match="a store in memory cannot be read only"):
        ExampleStore(None, ENCODER, read_only=True)
    assert os.listdir(tmp_path) == []


# What is no store, or another encoder's


@pytest.mark.parametrize(
    "contents", [b"no database at all, but long enough to be looked at" * 10, b"SQLite format 3\x00"]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(opened, path, contents):
    path.write_bytes(contents)

    with pytest.raises(DataError, match=r"the store `.*` (is no example store|cannot be used)|is no example store"):
        opened()

    assert path.read_bytes() == contents


def test_another_programs_database_is_refused_and_left_alone(opened, path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()

    with pytest.raises(DataError, match=r"`.*judged.db` is no example store"):
        opened()

    assert path.read_bytes() == before


def test_another_format_is_refused(opened, path):
    fill(opened)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()

    with pytest.raises(DataError, match=r"has format 3, this version of gliclass-rerank reads 2"):
        opened()


def test_an_empty_file_becomes_a_store(opened, path):
    path.touch()  # as a process leaves it that is killed before it writes anything

    fill(opened)

    with opened() as store:
        assert_in_step(store, IDS)


@pytest.mark.parametrize("place", ["missing/judged.db", "."])
def test_a_place_where_no_file_can_be_is_refused(opened, tmp_path, place):
    with pytest.raises(InputError, match="a store is a file in an existing folder, got"):
        opened(path=tmp_path / place)


def test_another_encoder_is_refused(opened, path):
    fill(opened)

    with pytest.raises(
        ConfigError,
        match=r"the store `.*` was filled by the encoder 'callable:bag of words', not by 'callable:other'; open it",
    ):
        opened(CallableEncoder(bag_of_words, name="other"))
    with opened() as store:
        assert_in_step(store, IDS)


def test_an_encoder_of_another_dimension_is_refused(opened):
    fill(opened)

    with pytest.raises(ConfigError, match="holds vectors of 16 numbers, the encoder gives 3"):
        opened(table_encoder({"a": np.ones(3)}, name="bag of words"))


def test_an_encoder_that_changed_behind_its_name_is_refused(opened):
    fill(opened)

    with pytest.raises(ConfigError, match=r"the encoder 'callable:bag of words' has changed since it filled the store"):
        opened(CallableEncoder(lambda texts: bag_of_words([text[::-1] for text in texts]), name="bag of words"))


def test_an_encoder_in_lower_precision_is_the_same(opened):
    fill(opened)

    with opened(CallableEncoder(lambda texts: bag_of_words(texts).astype(np.float16), name="bag of words")) as store:
        assert len(store) == len(IDS)


def test_a_store_can_be_embedded_anew(opened, path, backend):
    fill(opened, backend=backend)
    other = CallableEncoder(lambda texts: bag_of_words(texts)[:, :7], name="other")

    assert ExampleStore.reencode(path, other) == len(IDS)

    with opened(other, backend=backend) as store:
        assert_in_step(store, IDS)
        assert store.get("07").metadata == {"number": 7}
    with pytest.raises(ConfigError, match="was filled by the encoder 'callable:other'"):
        opened(backend=backend)


def test_embedding_anew_that_fails_leaves_the_store_as_it_was(opened, path):
    fill(opened)

    def encode(texts):
        if len(texts) > 1:
            raise RuntimeError("the service is down")
        return bag_of_words(texts)

    for _ in range(2):  # what the first attempt left behind is no obstacle
        with pytest.raises(RuntimeError, match="the service is down"):
            ExampleStore.reencode(path, CallableEncoder(encode, name="other"))
    with opened() as store:
        assert_in_step(store, IDS)


def test_only_a_store_nobody_has_open_can_be_embedded_anew(opened, path, tmp_path):
    with opened(), pytest.raises(DataError, match="is open elsewhere"):
        ExampleStore.reencode(path, ENCODER)
    with pytest.raises(DataError, match=r"there is no store `.*none.db`"):
        ExampleStore.reencode(tmp_path / "none.db", ENCODER)
    assert not (tmp_path / "none.db").exists()


def test_a_backup_is_a_store(opened, path, tmp_path):
    with opened() as store:
        store.add(EXAMPLES, ids=IDS)
        store.backup(tmp_path / "backup.db")
        with pytest.raises(InputError, match=r"a backup is never written over another file, `.*backup.db` exists"):
            store.backup(tmp_path / "backup.db")
        store.delete(IDS[:5])
        with opened(path=tmp_path / "backup.db") as backup:
            assert_in_step(backup, IDS)
    with opened(read_only=True) as store:
        store.backup(tmp_path / "second.db")


def test_the_path_may_be_text_with_a_home(opened, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    with ExampleStore("~/judged.db", ENCODER, backend="numpy") as store:
        assert store.path == tmp_path / "judged.db"
    assert (tmp_path / "judged.db").exists()
