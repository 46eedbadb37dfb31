"""Packed lists that somebody else has made, or broken."""

import random
import zipfile

import numpy as np
import pytest

from gliclass_rerank.learn.data.lists.block import NamedList, block_arrays, load_arrays, numbered, save_arrays
from gliclass_rerank.learn.data.lists.forms import Form, TextRef
from gliclass_rerank.learn.data.lists.join import joined
from gliclass_rerank.learn.data.lists.packed import load_packed
from gliclass_rerank.learn.data.lists.sources import read_items, source_digest

SURFACE = "packed lists"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "rerank" / "train" / "made").mkdir(parents=True)
    (folder / "rerank" / "train" / "made" / "corpus.jsonl").write_text(
        "".join(f'{{"id": "{n}", "text": "text {n} of a corpus"}}\n' for n in range(30))
    )
    return folder


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    refs = [TextRef("made/corpus", number, Form.BODY, False) for number in range(30)]
    lists = [
        NamedList(n % 3, refs[n]._replace(is_query=True), tuple(refs[n + 1 : n + 8]), (1, *[-1] * 6)) for n in range(20)
    ]
    block = numbered(lists, {"made/corpus": source_digest(read_items(data, "made/corpus"))})
    path = tmp_path_factory.mktemp("packed") / "lists.npz"
    codes = np.arange(len(block.candidate)).astype(np.uint8) // 2 + 1
    scored = {"scores/some": codes, "scale/some": np.array([0.5, 0.1], dtype=np.float32)}
    save_arrays(path, {**block_arrays(block), **scored})
    assert len(list(joined(load_packed(path), data))) == 20
    return path


def opened(path, data):
    return lambda: list(joined(load_packed(path), data))


def test_flipped_and_missing_bytes(attack, whole, data, tmp_path):
    rng = random.Random(11)
    raw, path = whole.read_bytes(), tmp_path / "lists.npz"
    for _ in range(attack.budget(60)):
        broken = bytearray(raw)
        for _ in range(rng.choice([1, 1, 4, 30])):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        cut = rng.choice([len(broken), len(broken), rng.randrange(len(broken))])
        path.write_bytes(broken[:cut])
        attack.attempt(SURFACE, opened(path, data), shown=cut)


def test_arrays_of_other_types_lengths_and_numbers(attack, whole, data, tmp_path):
    rng = np.random.default_rng(12)
    arrays, path = load_arrays(whole), tmp_path / "lists.npz"
    changes = {
        "numbers": lambda array: rng.integers(0, 2**31, array.shape).astype(array.dtype),
        "cut": lambda array: array[: rng.integers(len(array) + 1)],
        "twice": lambda array: np.concatenate([array, array]),
        "floats": lambda array: rng.normal(size=array.shape),
        "not finite": lambda array: np.full(array.shape, np.nan, dtype=np.float32),
        "texts": lambda array: np.array(["../../../etc/corpus"] * len(array)),
        "square": lambda array: np.stack([array, array]),
        "one number": lambda array: array[0],
        "reversed": lambda array: array[::-1],
    }
    for _ in range(attack.budget(1)):
        for name, array in arrays.items():
            for change, made in changes.items():
                save_arrays(path, {**arrays, name: np.asarray(made(array))})
                attack.attempt(SURFACE, opened(path, data), shown=(name, change))


def test_nothing_is_unpickled_and_no_other_file_is_read(attack, whole, data, tmp_path):
    arrays, path = load_arrays(whole), tmp_path / "lists.npz"
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return ran.touch, ()

    np.savez(path, **{**arrays, "grade": np.array([Evil()], dtype=object)})
    attack.attempt(SURFACE, opened(path, data), shown="pickle")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kind.npy", b"\x93NUMPY\x01\x00")
    attack.attempt(SURFACE, opened(path, data), shown="half a header")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "corpus.jsonl").write_text('{"id": "x", "text": "a secret"}\n' * 30)
    for name in (
        str(secret / "corpus"),
        f"../../../{secret.name}/corpus",
        "made/../made/corpus",
        "x" * 500,
        "\x00",
        "",
    ):
        save_arrays(path, {**arrays, "source_names": np.array([name])})
        found = attack.attempt(SURFACE, opened(path, data), shown=name, secret=name * 2)
        assert found is None
    assert not ran.exists()
