"""Damaged, foreign and planted files in caches: never other scores, never an exception of another kind."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import tiny_checkpoint

from gliclass_rerank.runtime.cache_entry import LIST, open_entry, seal
from gliclass_rerank.runtime.export import build_executor
from gliclass_rerank.runtime.passage_cache import PassageCache, write_passage_cache
from gliclass_rerank.runtime.resolve import resolve_runtime
from gliclass_rerank.types import Blocks

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
# Tries of the default run; openvino takes ten times as long, because it compiles.
RUNS = {("onnx", "float32"): 6, ("onnx", "int8"): 5, ("openvino", "float32"): 1, ("openvino", "int8"): 2}


def request(checkpoint):
    label = checkpoint.config.class_token_index
    return Blocks((2, 11, 13, 17, 3), tuple((label, *range(5, 5 + length), 3) for length in (4, 9, 2)))


def change_bytes(path, chance):
    """Anything that a disk or another program may do to a file."""
    whole = path.read_bytes()
    at = chance.randrange(len(whole) + 1)
    some = chance.randbytes(chance.randint(1, 40))
    path.write_bytes(
        chance.choice(
            [
                whole[:at],
                whole[:at] + some + whole[at + len(some) :],
                whole[:at] + some + whole[at:],
                whole + some,
                b"",
                some,
                b"\0" * len(whole),
                whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :]
                if at < len(whole)
                else whole[1:],
            ]
        )
    )


def change_list(path, chance):
    """Another list of an entry's files, most often a well-formed one."""
    file = path.parent / LIST
    values = json.loads(file.read_text())
    odd = chance.choice([None, 1, "x", [], {}, "0" * 64, {"../x.onnx": "0" * 64}, {"passage.onnx": 3}, 1e400])
    where = chance.choice(["format", "key", "files", "name", "all", "without"])
    if where == "name":
        values["files"][chance.choice(sorted(values["files"]))] = odd
    elif where == "without":
        del values["files"][chance.choice(sorted(values["files"]))]
    elif where == "all":
        values = odd
    else:
        values[where] = odd
    file.write_text(json.dumps(values))


def replace(path, chance):
    """Another file, a folder or a link in a file's place, or nothing."""
    others = [each for each in path.parent.iterdir() if each != path]
    aside = path.parent.parent / "aside"
    shutil.copy(path, aside)
    path.unlink()
    kind = chance.choice(["gone", "folder", "link", "swapped", "dangling", "hard link"])
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(aside)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "hard link":
        os.link(chance.choice(others), path)
    elif kind == "swapped":
        shutil.copy(chance.choice(others), path)


def add(path, chance):
    """A file that is not on the list."""
    (path.parent / chance.choice(["query.onnx", "more.onnx", "x.blob", ".hidden"])).write_bytes(chance.randbytes(50))


def open_to_others(path, chance):
    chance.choice([path, path.parent]).chmod(0o777)


def damage(entry: Path, chance: random.Random) -> str:
    path = chance.choice(sorted(entry.iterdir()))
    kind = chance.choice([change_bytes, change_bytes, change_list, replace, add, open_to_others])
    kind(path, chance)
    return f"{kind.__name__} of {path.name}"


@pytest.mark.parametrize(("runtime", "dtype"), RUNS)
def test_a_damaged_entry_gives_the_same_scores_or_an_error(attack, tmp_path, runtime, dtype):
    pytest.importorskip(PACKAGES[runtime])
    checkpoint = tiny_checkpoint("bert", attention_plan="shared_query")
    asked, cache, whole = request(checkpoint), tmp_path / "cache", tmp_path / "whole"

    def logits():
        resolved = resolve_runtime(checkpoint.config, backend=runtime, dtype=dtype, device="cpu")
        executor = build_executor(
            checkpoint.model, resolved, plan="shared_query", sample=lambda: [asked], cache_folder=cache
        )
        return executor.logits([asked])

    expected = logits()
    assert logits() == expected
    (entry,) = (path for path in cache.iterdir() if not path.name.startswith("."))
    shutil.copytree(entry, whole)
    for number in range(attack.budget(RUNS[runtime, dtype])):
        shutil.rmtree(entry)
        shutil.copytree(whole, entry)
        done = damage(entry, random.Random(number))
        found = attack.attempt(f"cache {runtime} {dtype}", logits, shown=(number, done))
        assert found in (None, expected), f"try {number}, {done}: other scores"
        assert [path.name for path in cache.iterdir() if path.name not in ("aside", entry.name)] == []


def test_an_entry_that_is_opened_holds_what_was_written(attack, tmp_path):
    """As above, without runtimes: many more tries."""
    key, chance = "0123456789abcdef" * 2, random.Random(3)
    whole, entry = tmp_path / "whole" / key, tmp_path / "cache" / key
    whole.mkdir(parents=True)
    for name in ("passage.onnx", "query.onnx"):
        (whole / name).write_bytes(chance.randbytes(300))
    seal(whole, key)
    whole.chmod(0o700)
    wanted = {name: (whole / name).read_bytes() for name in ("passage.onnx", "query.onnx")}
    shutil.copytree(whole, entry)
    assert open_entry(entry) is not None
    num_opened = 0
    for number in range(attack.budget(80)):
        shutil.rmtree(entry)
        shutil.copytree(whole, entry)
        done = damage(entry, random.Random(number))
        opened = attack.attempt("cache entry", lambda: open_entry(entry), shown=(number, done))
        if opened is not None:
            num_opened += 1
            assert {name: (entry / name).read_bytes() for name in opened.files} == wanted, f"try {number}, {done}"
    assert num_opened < attack.budget(80) / 2  # most of it is damage


def test_a_damaged_passage_cache_raises_nothing_foreign(attack, tmp_path):
    """What states it holds is trusted (see its module), but not what it says of itself."""
    whole, folder = tmp_path / "whole", tmp_path / "cache"
    rows = [(5, 6, 7), (8, 9), (10,)]
    with write_passage_cache(whole, layer=1, digest="d", dtype="int8", width=4) as writer:
        for ids in rows:
            writer.add(ids, np.ones((len(ids), 4), dtype=np.float32))

    def read():
        cache = PassageCache(folder)
        found = cache.find(rows)
        return cache.states([(start, len(rows[row])) for row, start in found.items()]).shape if found else None

    for number in range(attack.budget(25)):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        chance = random.Random(number)
        path = chance.choice(sorted(folder.iterdir()))
        if path.suffix == ".json" and number % 2:
            values = json.loads(path.read_text())
            values[chance.choice(sorted(values))] = chance.choice([0, -1, 2, 10**12, 10**30, "", "float16", None, 1.5])
            path.write_text(json.dumps(values))
        else:
            change_bytes(path, chance)
        attack.attempt("passage cache", read, shown=(number, path.name))
