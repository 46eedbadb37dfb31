"""The file format of a passage cache, without a model."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from gliclass_rerank.errors import BackendError, ConfigError, DataError
from gliclass_rerank.runtime.passage_cache import PassageCache, write_passage_cache

WIDTH = 11
PASSAGES = [(7, 3), (7, 11, 3), (7, 3, 11, 13, 5), *((7, number, 3) for number in range(20, 60))]
META = {"layer": 2, "digest": "ab", "width": WIDTH}


def states_of(ids):
    """States of very different size, token by token."""
    drawn = np.random.default_rng(sum(ids)).normal(size=(len(ids), WIDTH)).astype(np.float32)
    return drawn * (10.0 ** np.arange(len(ids), dtype=np.float32))[:, None]


def write(folder, dtype="float16", passages=PASSAGES):
    with write_passage_cache(folder, dtype=dtype, **META) as writer:
        for ids in passages:
            writer.add(ids, states_of(ids))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "cache")


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_states_come_back_padded_and_as_exact_as_their_precision(tmp_path, dtype):
    cache = PassageCache(write(tmp_path / "cache", dtype))

    found = cache.find(PASSAGES)
    states = cache.states([(found[index], len(ids)) for index, ids in enumerate(PASSAGES)])

    assert states.shape == (len(PASSAGES), 5, WIDTH)
    for row, ids in zip(states, PASSAGES, strict=True):
        expected = states_of(ids)
        # Half precision errs by the size of a number, int8 by half a step of its token.
        error = 2**-11 * np.abs(expected) if dtype == "float16" else np.abs(expected).max(axis=1)[:, None] / 253
        assert (np.abs(row[: len(ids)].astype(np.float32) - expected) <= error).all()
        assert not row[len(ids) :].any()
    assert (cache.meta.num_passages, cache.meta.num_tokens) == (43, 2 + 3 + 5 + 40 * 3)


def test_a_passage_is_found_by_all_of_its_tokens(folder):
    cache = PassageCache(folder)

    assert cache.find([(7, 3, 11, 13), (7, 11, 3), (7,), (3, 7), (7, 3), (7, 3, 11, 13, 5, 0)]).keys() == {1, 4}


def test_a_token_whose_state_is_zero_stays_zero_in_int8(tmp_path):
    with write_passage_cache(tmp_path / "cache", dtype="int8", **META) as writer:
        writer.add((7, 3), np.zeros((2, WIDTH), dtype=np.float32))

    assert not PassageCache(tmp_path / "cache").states([(0, 2)]).any()


@pytest.mark.parametrize(
    ("peak", "dtype", "message"),
    [
        (7e4, "float16", "the states of a passage reach 7e\\+04, which cannot be kept; keep them in int8"),
        (np.nan, "float16", "the states of a passage reach nan, which cannot be kept$"),
        (np.inf, "int8", "the states of a passage reach inf, which cannot be kept$"),
    ],
)
def test_states_that_cannot_be_kept_are_refused_and_leave_nothing(tmp_path, peak, dtype, message):
    def add():
        with write_passage_cache(tmp_path / "cache", dtype=dtype, **META) as writer:
            writer.add((7,), np.full((1, WIDTH), peak, dtype=np.float32))

    with pytest.raises(BackendError, match=message):
        add()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_never_overwritten(folder):
    with pytest.raises(DataError, match="cache` exists already; a passage cache is never overwritten"):
        write(folder)


def test_a_cache_without_a_passage_and_one_of_another_precision_are_refused(tmp_path):
    with pytest.raises(DataError, match="must hold a passage, got none"):
        write(tmp_path / "cache", passages=[])
    with pytest.raises(ConfigError, match="is kept in `float16`, `int8`, got 'int4'"):
        write(tmp_path / "cache", "int4")

    assert list(tmp_path.iterdir()) == []


def change_meta(**changes):
    def change(folder):
        path = folder / "meta.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def cut(name, num_bytes):
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - num_bytes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "meta.json").unlink(), "there is no passage cache at .*: meta.json: No such file"),
        (lambda folder: (folder / "meta.json").write_text("{"), "is broken: meta.json is not JSON"),
        (lambda folder: (folder / "meta.json").write_text("[]"), "must have the format 1, got None"),
        (change_meta(format=2), "must have the format 1, got 2"),
        (change_meta(layer="3"), "is broken: meta.json does not say what it holds"),
        (change_meta(dtype="int4"), "is broken: meta.json does not say what it holds"),
        (change_meta(num_passages=0), "is broken: meta.json does not say what it holds"),
        (change_meta(num_passages=42), "is broken: keys.npy must have 42 entries of \\|S16, got \\(43,\\) of \\|S16"),
        (cut("states.bin", 1), "is broken: states.bin must have 2860 bytes, got 2859"),
        (cut("keys.npy", 1), "is broken: keys.npy: "),
        (cut("offsets.npy", 8), "is broken: offsets.npy: "),
        (lambda folder: (folder / "states.bin").unlink(), "is broken: states.bin must have 2860 bytes, got 0"),
        (lambda folder: (folder / "keys.npy").unlink(), "is broken: keys.npy: .*No such file"),
    ],
)
def test_what_is_no_whole_cache_is_refused_with_a_sentence(folder, damage, message):
    damage(folder)

    with pytest.raises(DataError, match=message) as caught:
        PassageCache(folder)

    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"there is no passage cache at .*absent`"):
        PassageCache(tmp_path / "absent")


def test_a_killed_process_leaves_no_cache_and_nothing_that_stops_the_next_one(tmp_path):
    code = (
        "import os, pathlib, numpy\n"
        "from gliclass_rerank.runtime.passage_cache import write_passage_cache\n"
        f"with write_passage_cache(pathlib.Path('cache'), dtype='int8', **{META}) as writer:\n"
        f"    writer.add((7, 3), numpy.ones((2, {WIDTH}), dtype=numpy.float32))\n"
        f"    os.kill(os.getpid(), {signal.SIGKILL:d})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == -signal.SIGKILL

    assert not (tmp_path / "cache").exists()
    assert PassageCache(write(tmp_path / "cache")).meta.num_passages == len(PASSAGES)
