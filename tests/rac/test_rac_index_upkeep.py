"""Index of a store on the disk: read, brought up to date, or built anew."""

import os
import zipfile
from pathlib import Path

import pytest
from rac_data import EXAMPLES, IDS, assert_in_step, fill

from gliclass_rerank import Example
from gliclass_rerank.examples.faiss_index import FaissIndex


@pytest.fixture
def built(monkeypatch):
    """Of how many vectors FAISS indexes are built from here on."""
    pytest.importorskip("faiss")
    sizes, build = [], FaissIndex.build
    monkeypatch.setattr(FaissIndex, "build", lambda kind, source: sizes.append(len(source)) or build(kind, source))
    return sizes


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
