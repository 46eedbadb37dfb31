"""What is removed from the cache of exported graphs, and what is not."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from gliclass_rerank import BackendError, ConfigError
from gliclass_rerank.files.atomic_write import atomic_folder
from gliclass_rerank.runtime import private_folder
from gliclass_rerank.runtime.graph_cache import SIZE_VARIABLE, cached_graphs, prune_graphs, shrink_graphs

KEYS = tuple(digit * 32 for digit in "abcd")
DAY_S = 24 * 3600


def build(folder):
    (folder / "query.onnx").write_text("a graph")


def age(path, days):
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))


@pytest.fixture
def entries(tmp_path):
    return [cached_graphs(tmp_path, key, build).folder for key in KEYS]


def test_only_entries_that_were_not_used_for_so_long_are_removed(tmp_path, entries):
    for entry, days in zip(entries, (0, 6, 8, 400), strict=True):
        age(entry, days)

    assert prune_graphs(tmp_path, unused_days=7) == 2

    assert sorted(tmp_path.iterdir()) == entries[:2]
    assert prune_graphs(tmp_path, unused_days=7) == 0


def test_a_use_counts_as_one_and_a_removed_entry_is_built_again(tmp_path, entries):
    for entry in entries:
        age(entry, 8)

    cached_graphs(tmp_path, KEYS[0], build)

    assert prune_graphs(tmp_path, unused_days=7) == 3
    assert list(tmp_path.iterdir()) == entries[:1]
    assert (cached_graphs(tmp_path, KEYS[1], build).folder / "query.onnx").read_text() == "a graph"


def test_what_a_killed_process_left_is_removed_and_what_is_being_built_is_not(tmp_path, entries):
    left, building = tmp_path / f".{KEYS[0]}-x1", tmp_path / f".{KEYS[0]}-x2"
    for folder in (left, building):
        folder.mkdir()
        build(folder)
    age(left, 2)

    assert prune_graphs(tmp_path, unused_days=1) == 1
    assert sorted(tmp_path.iterdir()) == sorted([building, *entries])


def test_what_is_not_an_entry_stays(tmp_path):
    for name in ("passages", ".keep", "a" * 31):
        (tmp_path / name).mkdir()
        age(tmp_path / name, 400)

    assert prune_graphs(tmp_path, unused_days=1) == 0
    assert len(list(tmp_path.iterdir())) == 3
    assert prune_graphs(tmp_path / "nowhere", unused_days=1) == 0


def test_an_entry_that_another_process_removes_first_is_no_error(tmp_path, entries, monkeypatch):
    age(entries[0], 2)
    age(entries[1], 2)
    rename = type(tmp_path).rename

    def gone(path, target):
        shutil.rmtree(path)
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(type(tmp_path), "rename", gone)
        assert prune_graphs(tmp_path, unused_days=1) == 0


def test_less_than_a_day_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="`unused_days` must be at least 1, got 0"):
        prune_graphs(tmp_path, unused_days=0)


def fill(folder, key, size):
    entry = cached_graphs(folder, key, lambda staging: (staging / "query.onnx").write_bytes(b"x" * size))
    return entry.folder


def test_the_entries_that_were_not_used_for_the_longest_time_make_room(tmp_path, monkeypatch):
    for days, key in enumerate(KEYS):
        age(fill(tmp_path, key, 1 << 20), days)
    monkeypatch.setenv(SIZE_VARIABLE, str(2.5 / 1024))
    held = cached_graphs(tmp_path, KEYS[3], build)  # the oldest one is used again
    age(held.folder, 300)

    assert shrink_graphs(tmp_path) == 2

    assert sorted(path.name for path in tmp_path.iterdir()) == [KEYS[0], KEYS[3]]
    monkeypatch.setenv(SIZE_VARIABLE, "0")
    assert shrink_graphs(tmp_path) == 1
    del held
    assert shrink_graphs(tmp_path) == 1


def test_an_entry_that_another_process_has_open_stays(tmp_path, monkeypatch):
    fill(tmp_path, KEYS[0], 10)
    program = (
        "import sys; from pathlib import Path; from gliclass_rerank.runtime.cache_entry import open_entry; "
        "entry = open_entry(Path(sys.argv[1])); print(entry is not None, flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", program, str(tmp_path / KEYS[0])]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        monkeypatch.setenv(SIZE_VARIABLE, "0")
        assert shrink_graphs(tmp_path) == 0
        other.stdin.close()
        other.wait()
    assert shrink_graphs(tmp_path) == 1


@pytest.mark.parametrize("size", ["-1", "many", "nan", "inf"])
def test_a_size_that_is_none_is_refused(tmp_path, monkeypatch, size):
    monkeypatch.setenv(SIZE_VARIABLE, size)
    with pytest.raises(ConfigError, match=f"`{SIZE_VARIABLE}` must be a number of GiB, got '{size}'"):
        shrink_graphs(tmp_path)


def test_an_entry_that_was_changed_is_built_again(tmp_path):
    entry = fill(tmp_path, KEYS[0], 10)
    (entry / "query.onnx").write_text("another graph")

    assert (cached_graphs(tmp_path, KEYS[0], build).folder / "query.onnx").read_text() == "a graph"
    shutil.copytree(tmp_path / KEYS[0], tmp_path / KEYS[1])  # another network's
    again = fill(tmp_path, KEYS[1], 10)
    assert (again / "query.onnx").read_bytes() == b"x" * 10
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX's owners and modes")
def test_a_cache_is_the_users_own(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    entry = fill(folder, KEYS[0], 10)

    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, entry, *entry.iterdir())}
    assert modes == {"cache": 0o700, KEYS[0]: 0o700, "entry.json": 0o600, "query.onnx": 0o600}


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX's owners and modes")
def test_a_cache_of_another_user_is_refused(tmp_path, monkeypatch):
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    monkeypatch.setattr(private_folder, "_ROOT", other)

    with pytest.raises(BackendError, match=r"the cache `.*` belongs to another user"):
        cached_graphs(tmp_path, KEYS[0], build)


def test_what_killed_processes_left_is_removed_and_what_is_being_built_is_not(tmp_path):
    fill(tmp_path, KEYS[0], 10)
    left = [tmp_path / f".{KEYS[1]}-abcdefgh.unfinished", tmp_path / f".{KEYS[2]}-1234-removed"]
    for folder in left:
        folder.mkdir()
    with atomic_folder(tmp_path / KEYS[3]) as staging:
        shrink_graphs(tmp_path)
        assert staging.exists()
        assert not any(folder.exists() for folder in left)
        (staging / "x").touch()
