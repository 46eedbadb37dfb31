"""Exported backends in forked processes: an answer or an error of ours, never a wait without end."""

import subprocess
import sys

import pytest

from gliclass_rerank.runtime.after_fork import OpenedHere

# Ranks, forks while another thread ranks, ranks in the child; prints how each child ended.
PROGRAM = """
import os, sys, threading, time
import torch
torch.set_num_threads(1)
from gliclass_rerank import BackendError, Reranker

model, backend, dtype = sys.argv[1:]
reranker = Reranker(model, device="cpu", backend=backend, dtype=dtype, threads=2)
texts = ["oil chain rust " * (1 + number % 9) for number in range(40)]

def logits():
    return [(hit.index, round(hit.logit, 4)) for hit in reranker.rank("chain", texts)]

expected, over = logits(), threading.Event()

def work():
    while not over.is_set():
        logits()

def child():
    try:
        os._exit(0 if logits() == expected else 3)
    except BackendError as error:
        os._exit(2 if "load it after the fork" in str(error) else 4)

def fork():
    pid = os.fork()
    if not pid:
        child()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

codes = [fork() for _ in range(3)]
thread = threading.Thread(target=work)
thread.start()
for _ in range(4):
    time.sleep(0.03)
    codes.append(fork())
over.set()
thread.join()
print(codes, logits() == expected)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize(("backend", "code"), [("onnx", 0), ("openvino", 2)])
def test_a_child_ranks_as_its_parent_or_says_that_it_cannot(tiny_folders, tmp_path, monkeypatch, backend, code, dtype):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[backend])
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_folders["bert"]), backend, dtype],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stdout.strip() == f"{[code] * 7} True", done.stderr[-1000:]


def test_what_a_library_opened_is_kept_until_it_is_dropped():
    opened = OpenedHere(object)
    first = opened.get()

    assert opened.get() is first
    opened.drop()
    assert opened.get() is not first
