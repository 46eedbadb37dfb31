"""What is removed from the cache of exported graphs, and what is not."""

import os
import shutil
import time

import pytest

from gliclass_rerank import ConfigError
from gliclass_rerank.engine.graph_cache import cached_graphs, prune_graphs

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
