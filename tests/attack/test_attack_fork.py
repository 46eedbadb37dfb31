"""Processes that are forked while another thread ranks: they rank too, and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from gliclass_rerank.calls.forks import in_sound_thread
from gliclass_rerank.calls.steps import between_groups, computing
from gliclass_rerank.calls.workers import Workers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

MODEL = "minilm-l6-v1"
LIMIT_S = 120.0  # of which most is for other processes on a busy machine
HERE = Path(__file__).parent
EVERY_SETTING = (
    {},
    {"backend": "auto"},
    {"dtype": "bfloat16"},
    {"threads": 1},
    {"threads": 2},
    {"backend": "onnx", "dtype": "int8"},
    {"backend": "openvino", "dtype": "int8"},
)
WAYS = ("by_fork", "in_another_thread", "in_grandchild", "loaded_by_child", "by_multiprocessing")


@pytest.mark.parametrize(
    ("way", "torch_threads", "settings"),
    [
        ("by_fork", 2, {}),
        *(
            pytest.param(way, torch_threads, settings, marks=pytest.mark.slow)
            for way in WAYS
            for torch_threads in (1, 2)
            for settings in EVERY_SETTING
        ),
    ],
)
def test_a_process_forked_while_a_thread_ranks_ranks_too_and_both_end(attack, way, torch_threads, settings):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}.get(settings.get("backend"), "torch"))
    argv = [sys.executable, "-W", "ignore", HERE / "forking_process.py", way, MODEL, torch_threads]

    # Torch's threads shall not keep cores busy while they wait: there are few, and many processes.
    env = {"OMP_WAIT_POLICY": "PASSIVE"}
    done = attack.command("fork", [*argv, json.dumps(settings)], limit_s=LIMIT_S, env=env)

    assert done is None or done.returncode == 0, done.stderr


@pytest.mark.slow
def test_tokenizers_that_are_told_to_use_threads_are_told_otherwise_in_a_fork(attack):
    argv = [sys.executable, "-W", "ignore", HERE / "forking_process.py", "by_fork", MODEL, 1]

    done = attack.command("fork", argv, limit_s=LIMIT_S, env={"TOKENIZERS_PARALLELISM": "true"})

    assert done is None or done.returncode == 0, done.stderr


def wait_in_child(check):
    """The exit code of a forked process that does no more than `check`."""
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(10)
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Python warns of forks of processes with threads from 3.12 on: they are what is tested.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_for_a_forward_pass_and_not_for_the_whole_call():
    groups, forked = [], threading.Event()

    def call():
        with computing:
            while not forked.is_set():
                between_groups()
                groups.append("begun")
                time.sleep(0.02)
                groups.append("ended")

    thread = threading.Thread(target=call)
    thread.start()
    while not groups:
        time.sleep(0.001)

    codes = [wait_in_child(lambda: groups[-1] == "ended") for _ in range(5)]
    forked.set()
    thread.join()

    assert codes == [0] * 5


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_from_within_a_forward_pass_does_not_wait_for_itself():
    with computing:
        assert wait_in_child(lambda: True) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_are_there_again_and_another_thread_stands_in_for_the_one_that_is_left():
    workers = Workers(2, "test")
    release = threading.Event()
    busy = [workers.submit(release.wait, 10) for _ in range(4)]

    def check():
        own = threading.get_ident()
        return workers.call(int, "7") == 7 and in_sound_thread(threading.get_ident) != own

    assert in_sound_thread(threading.get_ident) == threading.get_ident()
    assert wait_in_child(check) == 0
    release.set()
    assert all(each.result() for each in busy)


SERVICE = """
import torch
torch.set_num_threads({threads})
from gliclass_rerank import Reranker
reranker = Reranker({model!r}, device="cpu", backend="torch")
passages = ["oil the chain " * 30, "a tyre is flat " * 20, "true the wheel"] * 5
expected = reranker.rank("chain", passages)

def app(environ, start_response):
    found = [hit.index for hit in reranker.rank("chain", passages)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"same" if found == [hit.index for hit in expected] else b"other"]
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def answer(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LIMIT_S) as response:
        return response.read()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gunicorn") is None, reason="gunicorn is not installed")
@pytest.mark.parametrize("threads", [1, 2])
def test_gunicorn_may_load_before_it_forks(attack, tmp_path, threads):
    (tmp_path / "service.py").write_text(SERVICE.format(threads=threads, model=MODEL), encoding="utf-8")
    port = free_port()
    argv = [sys.executable, "-W", "ignore", "-m", "gunicorn", "--preload", "--workers", "2", "--timeout", "100"]
    server = subprocess.Popen(
        [*argv, "--bind", f"127.0.0.1:{port}", "service:app"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    said = []
    while "Booting worker" not in "".join(said):
        said.append(server.stderr.readline())
        assert said[-1], "".join(said)

    answers = [attack.attempt("gunicorn", lambda: answer(port), limit_s=LIMIT_S) for _ in range(4)]
    server.send_signal(signal.SIGTERM)
    _, errors = server.communicate(timeout=LIMIT_S)

    assert answers == [b"same"] * 4
    assert server.returncode == 0, errors
    assert "terminate called" not in errors
