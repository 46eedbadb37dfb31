"""Makes exports or passage caches until it is killed: python killed_maker.py.

Importing takes longer than making, so one process imports and forks. In: `export` or `precompute`, the model, a folder
and after how many seconds to kill it (0: never), a line each, separated by tabs. Out: `ready`, then for every line the
exit code of what was made.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from gliclass_rerank import Reranker
from gliclass_rerank._imports import require_onnxruntime
from gliclass_rerank.runtime import export

TEXTS = [f"oil chain rust rim saddle {number} " * (1 + number % 7) for number in range(60)]


def make(kind, model, folder):
    if kind == "export":
        export.default_cache_folder = lambda: folder
        Reranker(model, backend="onnx", dtype="int8", threads=1)
    else:
        Reranker(model, device="cpu", backend="torch", threads=1).precompute(TEXTS, folder)


def say(what):
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main():
    torch.set_num_threads(1)
    require_onnxruntime(extra="onnx")
    say("ready")
    for line in sys.stdin:
        kind, model, folder, killed_after = line.rstrip("\n").split("\t")
        child = os.fork()
        if not child:
            make(kind, model, Path(folder))
            os._exit(0)
        if float(killed_after):
            time.sleep(float(killed_after))
            os.kill(child, signal.SIGKILL)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
