"""Damaged and forged stores, killed and competing writers, and disks that are full."""

import io
import json
import os
import random
import signal
import sqlite3
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "rac"))
from forked import Child
from rac_data import DIM, ENCODER, unit_vectors
from test_rac_kill import Writers, replay

from gliclass_rerank import Example
from gliclass_rerank.errors import DataError
from gliclass_rerank.examples import ExampleStore

ROOT = Path(__file__).parents[2]

faiss = pytest.importorskip("faiss")
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
COUNT = 60
NAMES = [f"{number:02}" for number in range(COUNT)]
EXAMPLES = [Example(f"word{number} of the chain", [f"label {number}"], ["other"]) for number in range(COUNT)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The bytes of a store and of its index."""
    path = tmp_path_factory.mktemp("store") / "judged.db"
    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        store.add(EXAMPLES, ids=NAMES, metadata=[{"number": number} for number in range(COUNT)])
    return path.read_bytes(), Path(f"{path}.index").read_bytes()


@pytest.fixture(scope="module")
def writers():
    made = Writers()
    yield made
    made.close()


def parts_of(index):
    with zipfile.ZipFile(io.BytesIO(index)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def used(path):
    """Open a store and do everything with it once; returns what it answered to its own texts."""
    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        answers = [[hit.id for hit in store.search(example.text, k=1)] for example in EXAMPLES[::7]]
        list(store)
        store.search(EXAMPLES[0].text, where={"number": 0})
        store.get(NAMES[1])
        store.update([NAMES[2]], [EXAMPLES[2]])
        store.add_judgements(EXAMPLES[3], id=NAMES[3])
        store.delete(store.add([Example("new")]))
        store.save_index()
    return answers


RIGHT = [[name] for name in NAMES[::7]]


def damaged(raw, chance):
    kind = chance.choice(["flip", "flip", "cut", "insert", "zero", "copy", "number", "number"])
    changed = bytearray(raw)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(changed))
        if kind == "flip":
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del changed[at : at + chance.choice([1, 4, 1000, len(changed)])]
        elif kind == "insert":
            changed[at:at] = chance.randbytes(chance.choice([1, 4, 100]))
        elif kind == "zero":
            changed[at : at + 64] = bytes(len(changed[at : at + 64]))
        elif kind == "copy":
            changed[at : at + 32] = changed[: len(changed[at : at + 32])]
        else:
            number = chance.choice([0, 1, 2**31 - 1, 2**40, 2**63 - 1, -1, 10**12])
            changed[at : at + 8] = number.to_bytes(8, "little", signed=True)[: len(changed[at : at + 8])]
        if not changed:
            break
    return bytes(changed)


def test_a_damaged_index_costs_time_and_nothing_else(attack, made, tmp_path):
    chance, path = random.Random(1), tmp_path / "judged.db"
    for _ in range(attack.budget(10)):
        path.write_bytes(made[0])
        Path(f"{path}.index").write_bytes(damaged(made[1], chance))
        assert attack.attempt("store: damaged index", lambda: used(path)) in (RIGHT, None)


@pytest.mark.parametrize("knows_digests", [True, False])
def test_a_forged_index_costs_time_and_nothing_else(attack, made, tmp_path, knows_digests):
    """Parts with right checksums; once by somebody who can write to the store too, so that they are looked at."""
    chance, path = random.Random(2), tmp_path / "judged.db"
    parts = parts_of(made[1])
    for _ in range(attack.budget(10)):
        path.write_bytes(made[0])
        if not knows_digests:
            forget_digests(path)
        victim = chance.choice([*parts, "faiss", "faiss", "faiss"])
        with zipfile.ZipFile(f"{path}.index", "w") as forged:
            for name, raw in parts.items():
                # The beginning is where numbers say how much follows.
                start = chance.choice([len(raw), 400, 60])
                forged.writestr(name, damaged(raw[:start], chance) + raw[start:] if name == victim else raw)
        answers = attack.attempt("store: forged index", lambda: used(path), shown=victim)
        assert answers == RIGHT or not knows_digests


def forget_digests(path):
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE index_files")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("made_by", ["IVF4,Flat", "IDMap,Flat", "PCA8,Flat", "HNSW8", "SQ8", "Flat,RFlat"])
def test_an_index_of_another_class_costs_time_and_nothing_else(attack, made, tmp_path, made_by):
    path, out = tmp_path / "judged.db", io.BytesIO()
    other = faiss.index_factory(DIM, made_by, faiss.METRIC_INNER_PRODUCT)
    vectors = unit_vectors(COUNT)
    other.train(vectors)
    other.add_with_ids(vectors, np.arange(COUNT)) if made_by.startswith("IDMap") else other.add(vectors)
    faiss.write_index(other, faiss.PyCallbackIOWriter(out.write))
    path.write_bytes(made[0])
    forget_digests(path)
    parts = parts_of(made[1])
    with zipfile.ZipFile(f"{path}.index", "w") as forged:
        for name, raw in parts.items():
            forged.writestr(name, out.getvalue() if name == "faiss" else raw)

    assert attack.attempt("store: index of another class", lambda: used(path), shown=made_by) == RIGHT


def test_a_damaged_store_is_refused_or_read(attack, made, tmp_path):
    chance, path = random.Random(3), tmp_path / "judged.db"
    for _ in range(attack.budget(20)):
        for leftover in tmp_path.iterdir():
            leftover.unlink()
        path.write_bytes(damaged(made[0], chance))
        if chance.random() < 0.3:
            Path(f"{path}.index").write_bytes(made[1])
        if chance.random() < 0.1:
            Path(f"{path}-journal").write_bytes(chance.randbytes(600))
        attack.attempt("store: damaged file", lambda: used(path))


ODD_VALUES = [
    None, "", "x", b"", b"x", b"\xff" * 64, 0, -1, 1, 2**62, -(2**63), 1.5, float("inf"), "{}", "[]", "null", "NaN",
    "[" * 5000, '{"a":' * 3000, "9" * 5000, '{"text": 3}', '{"text": "a", "true_labels": 3}', '{"x": 1}', "\ud7ff\0",
]  # fmt: skip


def test_a_store_with_odd_values_is_refused_or_read(attack, made, tmp_path):
    """Whole as a database; what is in it is not what was written."""
    chance, path = random.Random(4), tmp_path / "judged.db"
    columns = [
        *(("store", column) for column in ("encoder", "dim", "probe", "state", "last_row")),
        *(("examples", column) for column in ("row", "id", "example", "metadata")),
        *(("vectors", column) for column in ("row", "vector")),
    ]
    cases = [(*column, value) for column in columns for value in ODD_VALUES]
    chance.shuffle(cases)
    for table, column, value in cases[: attack.budget(15)]:
        path.write_bytes(made[0])
        connection = sqlite3.connect(path)
        where = "" if table == "store" else " WHERE row IN (SELECT row FROM examples ORDER BY row LIMIT 1 OFFSET 1)"
        try:
            connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?{where}", (value,))
            connection.commit()
        except sqlite3.Error:
            continue  # SQLite's own types keep it out
        finally:
            connection.close()
        attack.attempt("store: odd values", lambda: used(path), shown=(table, column, value))
    for rows in (
        "DELETE FROM store",
        "INSERT INTO store SELECT * FROM store",
        "DELETE FROM vectors",
        "DELETE FROM examples",
    ):
        path.write_bytes(made[0])
        connection = sqlite3.connect(path)
        connection.execute(rows)
        connection.commit()
        connection.close()
        attack.attempt("store: odd values", lambda: used(path), shown=rows)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER x AFTER UPDATE ON store BEGIN DELETE FROM examples; END",
        "CREATE TABLE more (a)",
        "ALTER TABLE examples ADD COLUMN more",
        "DROP TABLE vectors",
        "CREATE VIEW more AS SELECT * FROM examples",
        "CREATE INDEX more ON examples (example)",
        "DROP TABLE vectors; CREATE VIEW vectors AS SELECT row, x'00' AS vector FROM examples",
    ],
)
def test_a_schema_of_somebody_else_is_refused(attack, made, tmp_path, statement):
    path = tmp_path / "judged.db"
    path.write_bytes(made[0])
    connection = sqlite3.connect(path)
    connection.executescript(statement)
    connection.close()

    assert attack.attempt("store: schema", lambda: used(path), shown=statement) is None


# Killed, competing, and out of space


def test_killed_writers_lose_nothing_and_leave_nothing(attack, writers, tmp_path):
    chance, path, contents = random.Random(5), tmp_path / "judged.db", {}
    for turn in range(attack.budget(4)):
        events = writers.run_and_kill(path, "faiss_hnsw", 7000 + turn, chance.uniform(0, 0.12), from_fork=turn % 4 == 3)
        attack.killed("store: writers")
        acknowledged, begun = replay(contents, events)

        def read():
            with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
                return {stored.id: stored.example.text for stored in store}

        contents = attack.attempt("store: opened after a kill", read)
        assert contents in (acknowledged, begun)
        assert {entry.name for entry in tmp_path.iterdir()} <= {path.name, f"{path.name}.index", f"{path.name}-journal"}


def test_children_of_a_fork_that_are_killed_lose_nothing(attack, tmp_path):
    chance = random.Random(6)
    with ExampleStore(tmp_path / "judged.db", ENCODER, backend="numpy") as store:
        kept = set()
        for turn in range(attack.budget(3)):
            reading, writing = os.pipe()

            def write(writing=writing, turn=turn):
                for number in range(10**6):
                    (name,) = store.add([Example(f"text {turn} {number}", ["x"] * 20)], ids=[f"{turn}-{number}"])
                    os.write(writing, f"{name}\n".encode())

            child = Child(write)
            os.close(writing)
            first = os.read(reading, 100).decode()  # it does write
            store.search("text", k=1)
            signal.sigtimedwait([], chance.uniform(0, 0.05))
            os.kill(child.pid, signal.SIGKILL)
            child.result()
            attack.killed("store: children of a fork")
            said = first + b"".join(iter(lambda reading=reading: os.read(reading, 65536), b"")).decode()
            os.close(reading)
            kept |= set(said.split("\n")[:-1])
            kept |= set(
                attack.attempt("store: used after a kill", lambda turn=turn: store.add([Example("parent")])) or ()
            )
            assert kept <= {stored.id for stored in store}


def test_four_writers_at_once_take_turns_or_are_refused(attack, tmp_path):
    """Processes that know nothing of each other: each opens, writes and closes again and again."""
    path, times = tmp_path / "judged.db", attack.budget(2)

    def write(name):
        done, reasons = [], []
        for number in range(5000):
            try:
                with ExampleStore(path, ENCODER, backend="numpy") as store:
                    done += store.add([Example(f"{name} {number}")], ids=[f"{name}-{number}"])
            except DataError as error:
                reasons += [str(error)] * ("is open elsewhere" not in str(error))
            if len(done) == times:
                break
        return [done, reasons]

    children = [Child(lambda name=name: write(name)) for name in "abcd"]
    results = [child.result() for child in children]

    for kind, said in results:
        assert kind == "done", said
        assert not said[1], "refused for another reason"
        for _ in range(len(said[0])):
            attack.attempt("store: four writers", lambda: None)
    with ExampleStore(path, ENCODER, backend="numpy") as store:
        assert sorted(stored.id for stored in store) == sorted(name for _, (done, _) in results for name in done)
        assert len(store) == 4 * times


def test_a_full_disk_loses_nothing(attack, tmp_path):
    """In a process of its own, whose files may not grow beyond some size."""
    for turn in range(attack.budget(1)):
        path = tmp_path / f"{turn}.db"
        limit = random.Random(turn).randrange(300_000, 1_000_000)  # of a log; an example takes 100,000
        program = f"""
import json, resource
from gliclass_rerank import Example
from gliclass_rerank.errors import GLiClassRerankError
from gliclass_rerank.examples import ExampleStore
from rac_data import ENCODER
store = ExampleStore({str(path)!r}, ENCODER, backend="faiss_hnsw")
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
done, refused = [], 0
for number in range(400):
    try:
        done += store.add([Example(f"text {{number}}", ["label " * 500])], ids=[str(number)])
    except GLiClassRerankError as error:
        refused += 1
        assert "cannot be used" in str(error), error
        if refused == 3:
            break
assert len(store) == len(done), (len(store), len(done))
store.save_index()
store.close()
print(json.dumps([done, refused]))
"""
        done = attack.command("store: full disk", [sys.executable, "-c", program], env=ENVIRONMENT)
        acknowledged, refused = json.loads(done.stdout)
        assert refused == 3
        assert acknowledged
        with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
            assert sorted(stored.id for stored in store) == sorted(acknowledged)


ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "rac")]), "OMP_NUM_THREADS": "1"}


def test_an_index_that_claims_a_terabyte_takes_no_memory(attack, made, tmp_path):
    """Of every number at its beginning a huge one is made, in a process that may have little memory."""
    path = tmp_path / "judged.db"
    path.write_bytes(made[0])
    Path(f"{path}.index").write_bytes(made[1])
    program = f"""
import io, resource, sqlite3, struct, zipfile
from pathlib import Path
import faiss, numpy
from gliclass_rerank.examples import ExampleStore
from rac_data import ENCODER
path = Path({str(path)!r})
connection = sqlite3.connect(path)
connection.execute("DROP TABLE index_files")
connection.commit()
connection.close()
raw = Path(f"{{path}}.index").read_bytes()
with zipfile.ZipFile(io.BytesIO(raw)) as archive:
    parts = {{name: archive.read(name) for name in archive.namelist()}}
stream = parts["faiss"]
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (2 << 30),) * 2)
tried = 0
for at in range(0, 120):
    forged = stream[:at] + struct.pack("<q", 10**12) + stream[at + 8:]
    with zipfile.ZipFile(f"{{path}}.index", "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, forged if name == "faiss" else part)
    with ExampleStore(path, ENCODER, backend="faiss_hnsw") as store:
        assert len(store.search("word1 of the chain")) == 3
    tried += 1
print(tried)
"""
    done = attack.command("store: huge claims", [sys.executable, "-c", program], env=ENVIRONMENT)
    assert done.stdout == "120\n"
