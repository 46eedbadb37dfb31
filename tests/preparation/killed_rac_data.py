"""Makes records with examples, slowly, until it is killed. A program: it forks a run for every line on its input.

Importing torch takes longer than a run, so one process imports it and forks. In: source and target, separated by a tab.
Out: `pid`, then a line with the stage whenever something of it is done; `dead` when the run is.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from preparation_data import ENCODER

from gliclass_rerank.learn.data.rac_data import RacData, make_rac_data


def say(text):
    os.write(1, f"{text}\n".encode())


@contextmanager
def slow(stage, total, done=0):
    def advance(count):
        say(stage)
        time.sleep(0.05)

    yield advance


def main():
    for line in sys.stdin:
        source, target = map(Path, line.rstrip("\n").split("\t"))
        child = os.fork()
        if not child:
            say(os.getpid())
            make_rac_data(target, RacData(source=source, seed=7), ENCODER, progress=slow)
            os._exit(0)
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
