"""Files of a store that somebody has tampered with: refused or built anew, never acted upon."""

import hashlib
import io
import os
import sqlite3
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rac_data import DIM, ENCODER, ArraySource, load, save, unit_vectors

from gliclass_rerank import Example
from gliclass_rerank.errors import DataError
from gliclass_rerank.examples import ExampleStore
from gliclass_rerank.examples.faiss_index import MIN_PQ_VECTORS, FaissBuilder
from gliclass_rerank.examples.index_file import partial_path
from gliclass_rerank.files.locks import hold

faiss = pytest.importorskip("faiss")
COUNT = 40
EXAMPLES = [Example(f"word{number} chain", [f"label {number}"]) for number in range(COUNT)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved index of each kind."""
    folder = tmp_path_factory.mktemp("indexes")
    counts = {"flat": COUNT, "hnsw": 2000, "ivf_pq": MIN_PQ_VECTORS}
    return {
        kind: save(
            FaissBuilder(kind).build(ArraySource(np.arange(count), unit_vectors(count))), folder / f"{kind}.index"
        )
        for kind, count in counts.items()
    }


def written(index):
    out = io.BytesIO()
    faiss.write_index(index, faiss.PyCallbackIOWriter(out.write))
    return out.getvalue()


def with_part(source, target, change, name="faiss"):
    """Copy an index with another part, its checksum right."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            part = old.read(info)
            new.writestr(info, change(part) if info.filename == name else part)
    return target


def filled(path):
    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        store.add(EXAMPLES, ids=[f"{number:02}" for number in range(COUNT)])
    return Path(f"{path}.index")


def answers(path):
    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        return [store.search(example.text, k=1)[0].id for example in EXAMPLES]


@pytest.mark.parametrize("knows_records", [True, False])
def test_an_index_cannot_name_a_file_to_write_to(tmp_path, knows_records):
    victim, path = tmp_path / "victim", tmp_path / "judged.db"
    index = filled(path)
    centroids = faiss.IndexFlatIP(DIM)
    forged = faiss.IndexIVFFlat(centroids, DIM, 1, faiss.METRIC_INNER_PRODUCT)
    forged.train(unit_vectors(COUNT))
    lists = faiss.OnDiskInvertedLists(1, forged.code_size, str(victim))
    forged.replace_invlists(lists)
    forged.add(unit_vectors(COUNT))
    raw = written(forged)
    del forged, lists
    assert str(victim).encode() in raw
    before = b"of somebody else" + bytes(victim.stat().st_size)
    victim.write_bytes(before)
    with_part(index, tmp_path / "forged", lambda _: raw)
    os.replace(tmp_path / "forged", index)
    if knows_records:  # so does who can write to the store itself
        connection = sqlite3.connect(path)
        connection.execute("UPDATE index_files SET digest = ?", (hashlib.sha256(index.read_bytes()).hexdigest(),))
        connection.commit()
        connection.close()

    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        assert store._index.using(lambda index: type(index._index).__name__) == "IndexHNSWFlat"
        store.add([Example(f"new {number}") for number in range(30)])
        store.save_index()
    assert victim.read_bytes() == before
    assert answers(path) == [f"{number:02}" for number in range(COUNT)]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_pq"])
@pytest.mark.parametrize(
    ("made_by", "metric"),
    [
        ("Flat", faiss.METRIC_L2),
        ("IDMap,Flat", faiss.METRIC_INNER_PRODUCT),
        ("PCA16,Flat", faiss.METRIC_INNER_PRODUCT),
        ("IVF4,Flat", faiss.METRIC_INNER_PRODUCT),
        ("SQ8", faiss.METRIC_INNER_PRODUCT),
        ("LSH", faiss.METRIC_L2),
        ("NSG8,Flat", faiss.METRIC_L2),
        ("HNSW8,SQ8", faiss.METRIC_INNER_PRODUCT),
        ("HNSW8", faiss.METRIC_INNER_PRODUCT),
        ("Flat,RFlat", faiss.METRIC_INNER_PRODUCT),
    ],
)
def test_an_index_of_another_class_is_refused(saved, tmp_path, kind, made_by, metric):
    other = faiss.index_factory(DIM, made_by, metric)
    other.train(unit_vectors(400))
    if made_by.startswith("IDMap"):
        other.add_with_ids(unit_vectors(400), np.arange(400))
    else:
        other.add(unit_vectors(400))

    with pytest.raises(DataError, match="no index that this library wrote"):
        load(FaissBuilder(kind), with_part(saved[kind], tmp_path / "forged", lambda _: written(other)))


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_pq"])
def test_what_we_write_is_read(saved, kind):
    index = load(FaissBuilder(kind), saved[kind])

    assert index.kind == kind
    (found,) = index.search(unit_vectors(len(index))[4:5], index.oversampling)
    assert 4 in found.rows


def test_sparse_lists_are_read(tmp_path):
    vectors = unit_vectors(MIN_PQ_VECTORS, num_clusters=1)
    index = FaissBuilder("ivf_pq").build(ArraySource(np.arange(len(vectors)), vectors))
    alone = FaissBuilder("ivf_pq").build(ArraySource(np.arange(len(vectors)), vectors))
    alone._index.reset()
    alone._index.add(vectors[:3])
    alone._rows, alone._alive = index._rows[:3], index._alive[:3]

    assert load(FaissBuilder("ivf_pq"), save(alone, tmp_path / "index")).rows().tolist() == [0, 1, 2]
    assert b"sprs" in written(alone._index)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_pq"])
@pytest.mark.parametrize("claimed", [10**12, 2**63 - 1, 2**64 - 1])
def test_a_length_beyond_the_file_is_refused_before_memory_is_taken(saved, tmp_path, kind, claimed):
    raw = zipfile.ZipFile(saved[kind]).read("faiss")
    # Every place that could be a length: eight bytes of a number that is not zero and not large.
    places = [at for at in range(4, min(len(raw), 2000) - 8) if 0 < struct.unpack_from("<Q", raw, at)[0] < 2**20]
    assert len(places) > 2
    for at in places[:60]:
        forged = bytearray(raw)
        struct.pack_into("<Q", forged, at, claimed)
        path = with_part(saved[kind], tmp_path / "forged", lambda _, forged=forged: bytes(forged))
        with pytest.raises(DataError, match="no index that this library wrote"):
            load(FaissBuilder(kind), path)


@pytest.mark.parametrize("link", [2000, 2**31 - 1, -2])
def test_links_that_lead_out_of_a_graph_are_refused(saved, tmp_path, link):
    index = load(FaissBuilder("hnsw"), saved["hnsw"])._index
    raw = written(index)
    start = raw.index(np.ascontiguousarray(faiss.vector_to_array(index.hnsw.neighbors)[:64]).tobytes())
    forged = raw[: start + 8] + struct.pack("<i", link) + raw[start + 12 :]

    with pytest.raises(DataError, match="the links of its nodes cannot be right"):
        load(FaissBuilder("hnsw"), with_part(saved["hnsw"], tmp_path / "forged", lambda _: forged))


def test_links_to_a_node_that_is_not_on_their_level_are_refused(saved, tmp_path):
    index = load(FaissBuilder("hnsw"), saved["hnsw"])._index
    raw, levels = written(index), faiss.vector_to_array(index.hnsw.levels)
    neighbors, offsets = faiss.vector_to_array(index.hnsw.neighbors), faiss.vector_to_array(index.hnsw.offsets)
    start = raw.index(neighbors[:64].tobytes())
    upper, lower = int(np.flatnonzero(levels > 1)[0]), int(np.flatnonzero(levels == 1)[0])
    at = start + 4 * (int(offsets[upper]) + 64)
    forged = raw[:at] + struct.pack("<i", lower) + raw[at + 4 :]

    with pytest.raises(DataError, match="the links of its nodes cannot be right"):
        load(FaissBuilder("hnsw"), with_part(saved["hnsw"], tmp_path / "forged", lambda _: forged))


def test_more_than_an_index_is_refused(saved, tmp_path):
    for kind, path in saved.items():
        with pytest.raises(DataError, match="its length cannot be right"):
            load(FaissBuilder(kind), with_part(path, tmp_path / "forged", lambda raw: raw + b"more"))


def test_an_array_that_claims_to_be_huge_is_refused(saved, tmp_path):
    def claim(raw):
        return raw.replace(b"'shape': (2000,)", b"'shape': (9**9,)").replace(b"(9**9,)", b"(9999999999999,)")[
            : len(raw)
        ]

    for name in ("rows.npy", "alive.npy"):
        with pytest.raises(DataError, match="of an index"):
            load(FaissBuilder("hnsw"), with_part(saved["hnsw"], tmp_path / "forged", claim, name))


def test_a_compressed_part_is_refused(saved, tmp_path):
    with zipfile.ZipFile(saved["flat"]) as old, zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))

    with pytest.raises(DataError, match="has parts that this library does not write"):
        load(FaissBuilder("flat"), tmp_path / "x")


def test_another_index_than_was_written_last_is_not_believed(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "judged.db"
    index = filled(path)
    with_part(index, tmp_path / "forged", lambda raw: raw[:-8] + bytes(8))  # a vector that leads nowhere
    os.replace(tmp_path / "forged", index)

    assert answers(path) == [f"{number:02}" for number in range(COUNT)]
    assert "is not the one that was written last" in caplog.text


def test_an_index_of_a_version_without_digests_is_read(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "judged.db"
    filled(path)
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE index_files")
    connection.commit()
    connection.close()

    assert answers(path) == [f"{number:02}" for number in range(COUNT)]
    assert "built anew" not in caplog.text


def test_a_schema_that_is_no_unicode_is_told_in_a_sentence(tmp_path):
    path = tmp_path / "judged.db"
    filled(path)
    written = path.read_bytes()
    path.write_bytes(written.replace(b"tableexamplesexamples", b"tableex\xffmplesexamples"))
    assert path.read_bytes() != written

    with pytest.raises(DataError, match=r"judged\.db` cannot be used: it is damaged$"):
        ExampleStore(path, ENCODER)


# Links, FIFOs, and files that vanish


def test_the_index_is_written_beside_a_link_not_through_it(tmp_path):
    path, victim = tmp_path / "judged.db", tmp_path / "victim"
    index = filled(path)
    victim.write_text("of somebody else")
    index.unlink()
    for link in (index, partial_path(index)):
        link.symlink_to(victim)

    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        if not partial_path(index).is_symlink():
            partial_path(index).symlink_to(victim)
        store.add([Example("one more")])
        store.save_index()

    assert victim.read_text() == "of somebody else"
    assert index.is_file()
    assert not index.is_symlink()


@pytest.mark.parametrize("name", ["judged.db", "judged.db.index"])
def test_a_fifo_is_not_opened(tmp_path, name):
    path = tmp_path / "judged.db"
    if name != path.name:
        filled(path)
        (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)

    if name == "judged.db.index":
        assert answers(path) == [f"{number:02}" for number in range(COUNT)]
    else:
        with pytest.raises(DataError, match="is no regular file"):
            ExampleStore(path, ENCODER)


def test_a_device_is_no_store():
    with pytest.raises(DataError, match="`/dev/zero` is no regular file"):
        ExampleStore("/dev/zero", ENCODER)


@pytest.mark.parametrize("kind", ["deleted", "replaced"])
def test_what_would_be_lost_is_not_written(tmp_path, kind):
    path = tmp_path / "judged.db"
    filled(path)
    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        if kind == "deleted":
            path.unlink()
        else:
            filled(tmp_path / "other.db")
            os.replace(tmp_path / "other.db", path)
        for change in (
            lambda: store.add([Example("x")]),
            lambda: store.update(["00"], [Example("x")]),
            lambda: store.delete(["00"]),
            lambda: store.add_judgements(Example("x")),
            store.save_index,
        ):
            with pytest.raises(DataError, match="was deleted or replaced while it was open"):
                change()
        assert len(store) == COUNT  # what is there can still be read


def test_a_schema_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "judged.db"
    filled(path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TRIGGER greedy AFTER INSERT ON examples BEGIN DELETE FROM vectors; END")
    connection.commit()
    connection.close()

    with pytest.raises(DataError, match="is no example store: it has other tables than one"):
        ExampleStore(path, ENCODER)


def test_a_trigger_put_into_an_open_store_never_fires(tmp_path):
    path = tmp_path / "judged.db"
    filled(path)
    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TRIGGER greedy AFTER INSERT ON examples BEGIN DELETE FROM vectors; END")
        connection.commit()
        connection.close()

        with pytest.raises(DataError, match="is no example store: it has other tables than one"):
            store.add([Example("x")])
        assert len(store) == COUNT


# Who may read


def test_files_are_nobody_elses(tmp_path):
    path = tmp_path / "judged.db"
    before = os.umask(0)
    try:
        index = filled(path)
        with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
            store.add([Example("x")])
            store.backup(tmp_path / "backup.db")
            made = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
        ExampleStore.reencode(path, ENCODER)
        made["reencoded"] = stat.S_IMODE(path.stat().st_mode)
    finally:
        os.umask(before)

    assert {path.name, index.name, "backup.db", "judged.db-wal", "judged.db-shm"} <= made.keys()
    assert set(made.values()) == {0o600}


def test_who_may_read_a_store_is_the_owners_choice(tmp_path):
    path = tmp_path / "judged.db"
    filled(path)
    path.chmod(0o640)
    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        store.add([Example("x")])
    ExampleStore.reencode(path, ENCODER)
    answers(path)

    assert {stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()} == {0o640}


def test_what_killed_processes_left_is_removed(tmp_path):
    path = tmp_path / "judged[1].db"
    names = [".index.partial", ".index.4711.partial"]
    filled(path)
    for name in names:
        Path(f"{path}{name}").write_bytes(b"half")
    (tmp_path / f".{path.name}.reencoded").write_bytes(b"half")
    (tmp_path / "other.db.index.1.partial").write_bytes(b"of another store")

    written = Path(f"{path}.index.4712.partial")
    written.write_bytes(b"of a process that is writing it")
    lock = hold(written)
    with ExampleStore(path, ENCODER, read_only=True):
        names = {entry.name for entry in tmp_path.iterdir()} - {f"{path.name}-wal", f"{path.name}-shm"}
        assert len(names) == 7
    answers(path)

    assert sorted(os.listdir(tmp_path)) == [path.name, f"{path.name}.index", written.name, "other.db.index.1.partial"]
    os.close(lock)
    answers(path)
    assert not written.exists()
