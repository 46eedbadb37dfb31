"""Writes to a store until it is killed. A program: it forks a writer for every line on its input, and says so.

Importing numpy and FAISS takes longer than a writer lives, so one process imports them and forks. In: `path backend
seed`, separated by tabs. Out: `pid`, then for every change `begin` with the change and `done`, each a line of JSON,
written with one system call; `dead` when the writer is. A change is one call of the store, so it happens wholly or not
at all.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

from rac_data import ENCODER

from gliclass_rerank import Example
from gliclass_rerank.examples import ExampleStore

WORDS = ["chain", "brake", "saddle", "bell", "wheel", "rim", "tyre", "pump", "light", "lock", "pedal", "spoke"]
# Beyond that more is deleted than added.
MANY = 120


def say(event, *details):
    os.write(1, (json.dumps([event, *details]) + "\n").encode())


def text(chance):
    return " ".join(chance.choices(WORDS, k=5)) + f" {chance.randrange(10**6)}"


def write(path, backend, seed):
    chance = random.Random(seed)
    store = ExampleStore(path, ENCODER, backend=backend)
    ids = sorted(stored.id for stored in store)
    for number in range(10**9):
        kind = chance.choices(["add", "update", "delete", "save", "reopen"], [6, 3, 8 if len(ids) > MANY else 2, 2, 1])[
            0
        ]
        some = chance.sample(ids, min(len(ids), chance.randint(1, 4)))
        if kind == "add":
            new = {f"{seed}-{number}-{part}": text(chance) for part in range(chance.randint(1, 5))}
            say("begin", new, [])
            store.add([Example(value, [value]) for value in new.values()], ids=list(new))
            ids += new
        elif kind == "update":
            new = {name: text(chance) for name in some}
            say("begin", new, [])
            store.update(list(new), [Example(value, [value]) for value in new.values()])
        elif kind == "delete":
            say("begin", {}, some)
            store.delete(some)
            ids = [name for name in ids if name not in some]
        else:
            say("begin", {}, [])
            if kind == "save":
                store.save_index()
            else:
                store.close()
                store = ExampleStore(path, ENCODER, backend=backend)
        say("done")


def main():
    import faiss  # noqa: F401 # not in each writer

    say("ready")
    for line in sys.stdin:
        path, backend, seed = line.rstrip("\n").split("\t")
        child = os.fork()
        if not child:
            say("pid", os.getpid())
            write(Path(path), backend, int(seed))
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
