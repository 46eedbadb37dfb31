"""Ctrl-C, cancelling and the interpreter's exit while a list is ranked that takes minutes."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from ranking_process import PASSAGES

from gliclass_rerank import Reranker, RerankStage
from gliclass_rerank.calls.steps import Token, working
from gliclass_rerank.runtime.worker_thread import WorkerThread

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is something else there")

MODEL = "minilm-l6-v1"
# Two seconds on an idle machine.
LIMIT_S = 10.0
SCRIPT = Path(__file__).with_name("ranking_process.py")
COMMAND = "import sys; from gliclass_rerank.cli.app import main; sys.exit(main())"
EVERY_SETTING = [
    {**backend, **threads}
    for backend, threads in itertools.product(
        ({}, {"dtype": "bfloat16"}, {"backend": "onnx", "dtype": "int8"}, {"backend": "openvino", "dtype": "int8"}),
        ({}, {"threads": 1}, {"threads": 2}),
    )
]
# As a caller sees the end of each: 7 is what the script ends with when all went well.
ENDS_BY_ITSELF = ("in_daemon", "timed_out", "cancelled", "abandoned")


def started(argv):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def interrupted(process, times):
    """Press Ctrl-C that often; the process's end, which must come soon, and what it said."""
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    return ended(process)


def ended(process):
    try:
        _, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"still there after {LIMIT_S} s")
    return process.returncode, errors


def ranking(way, settings):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}.get(settings.get("backend"), "torch"))
    process = started([SCRIPT, way, MODEL, json.dumps(settings)])
    assert process.stdout.readline() == "ranking\n", process.stderr.read()
    return process


@pytest.mark.parametrize(
    ("way", "settings"),
    [
        ("in_main", {"threads": 1}),
        *(pytest.param(way, each, marks=pytest.mark.slow) for way in ("in_main", "in_loop") for each in EVERY_SETTING),
    ],
)
@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_ctrl_c_ends_a_ranking_and_more_of_it_do_no_harm(attack, way, settings, times):
    process = ranking(way, settings)
    time.sleep(1.5)

    code, errors = interrupted(process, times)

    attack.attempt("ctrl-c", lambda: None)
    assert code in {-signal.SIGINT, 1}, errors  # 1: the later ones came while Python said so
    assert "terminate called" not in errors
    assert "KeyboardInterrupt" in errors


@pytest.mark.parametrize(
    ("way", "settings"),
    [
        ("in_daemon", {"threads": 1}),
        *(pytest.param(way, each, marks=pytest.mark.slow) for way in ENDS_BY_ITSELF for each in EVERY_SETTING),
    ],
)
def test_a_process_with_a_pending_ranking_ends(attack, way, settings):
    process = ranking(way, settings)

    code, errors = ended(process)

    attack.attempt("interpreter exit", lambda: None)
    assert code == 7, errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_thread_of_the_callers_that_is_no_daemon_is_finished(tmp_path):
    code = (
        "import sys, threading\nfrom gliclass_rerank import Reranker\n"
        f"reranker = Reranker({MODEL!r}, device='cpu', backend='torch', threads=1)\n"
        f"work = lambda: open({str(tmp_path / 'done')!r}, 'x').write(str(len(reranker.rank('chain', ['oil'] * 5))))\n"
        "threading.Timer(0.5, work).start()\nsys.exit(7)\n"
    )

    assert ended(started(["-c", code])) == (7, "")
    assert (tmp_path / "done").read_text() == "5"


def torch_is_loaded(process):
    return "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what a process has loaded is not to be seen here")
@pytest.mark.parametrize(
    ("later_s", "times", "options"),
    [
        (2.0, 3, ["--threads", "1"]),
        *(
            pytest.param(later_s, times, options, marks=pytest.mark.slow)
            for later_s in (0.0, 0.3, 0.8, 1.5, 3.0, 5.0)
            for times in (1, 2)
            for options in ([], ["--threads", "2"], ["--backend", "openvino"], ["--backend", "onnx", "--dtype", "int8"])
        ),
    ],
)
def test_the_command_says_nothing_when_it_is_interrupted(attack, tmp_path, later_s, times, options):
    passages = tmp_path / "passages.txt"
    passages.write_text("\n".join(PASSAGES), encoding="utf-8")
    process = started(
        ["-c", COMMAND, "rank", "--query", "chain", "--passages", passages, "--backend", "torch", *options]
    )
    while not torch_is_loaded(process):
        time.sleep(0.05)
    time.sleep(later_s)

    code, errors = interrupted(process, times)

    attack.attempt("ctrl-c, command", lambda: None)
    assert code == 130, errors
    assert len(errors.splitlines()) <= 1, errors


@pytest.fixture(scope="module")
def reranker():
    torch.set_num_threads(1)
    return Reranker(MODEL, device="cpu", threads=1)


@pytest.mark.parametrize("on_error", ["raise", "keep_order"])
def test_a_cancelled_call_leaves_its_thread_to_the_next_one(attack, reranker, on_error):
    stage = RerankStage(reranker=reranker, on_error=on_error)

    async def main():
        tasks = [asyncio.create_task(stage.arun("chain", PASSAGES)) for _ in range(5)]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in found)
        return await asyncio.wait_for(stage.arun("chain", PASSAGES[:2]), LIMIT_S)

    found = attack.attempt("arun, cancelled", lambda: asyncio.run(main()))

    assert found.error is None
    assert len(found.hits) == 2


def test_what_is_cancelled_while_it_plans_is_not_planned_to_its_end(attack, reranker):
    token, ended_by = Token(), []

    def work():
        try:
            with working(token):
                reranker.rank("chain", PASSAGES * 10)
        except SystemExit as error:
            ended_by.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.2)
    token.cancel()
    thread.join(LIMIT_S)

    attack.attempt("cancelled while planning", lambda: None)
    assert not thread.is_alive()
    assert len(ended_by) == 1


class Waiting:
    """A backend that computes until it is told not to."""

    def __init__(self):
        self.begun, self.over = threading.Event(), threading.Event()

    def window_logits(self, windows):
        self.begun.set()
        assert self.over.wait(LIMIT_S)
        return [[0.0]]


def test_an_interrupted_wait_returns_at_once_and_cancels_what_it_waited_for():
    backend = Waiting()
    own = WorkerThread(backend, 1)

    def interrupt():
        backend.begun.wait(LIMIT_S)
        time.sleep(0.2)  # Python does not notice a signal on its way into a wait
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with working() as token, pytest.raises(KeyboardInterrupt):
        own.window_logits([])
    assert not token.is_cancelled  # the call around it may go on
    backend.over.set()
    assert own.window_logits([]) == [[0.0]]
