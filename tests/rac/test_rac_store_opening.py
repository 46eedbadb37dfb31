"""Opening of a store: formats, read-only media, refusals, encoders, and copies."""

import os
import sqlite3
import tempfile
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from forked import Child
from rac_data import ENCODER, EXAMPLES, IDS, assert_in_step, bag_of_words, fill, table_encoder

from gliclass_rerank.errors import ConfigError, DataError, InputError
from gliclass_rerank.examples import CallableEncoder, ExampleStore


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
