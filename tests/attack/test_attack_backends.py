"""Backends that report home, that have too little memory, and whose makers are killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_checkpoints import write_tiny_checkpoint

from gliclass_rerank.errors import BackendError

HERE = Path(__file__).parent
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Passages see the query in the last layer only, so that it can have a passage cache."""
    changes = {"attention_plan": "shared_query", "query_attention_start": 2, "squeeze_layers": False}
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny", "bert", **changes)


def environment(tmp_path, home):
    """As a user's: nothing in it says that this is a test or that nothing is to be sent."""
    home.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    folders = {name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return {**kept, **folders, "HOME": str(home), "HF_HOME": str(tmp_path / "hf"), "TMPDIR": str(temporary)}


@pytest.mark.slow
def test_ranking_sends_nothing_and_leaves_nothing_but_exports(attack, tmp_path, model):
    for package in PACKAGES.values():
        pytest.importorskip(package)
    home, trace = tmp_path / "home", tmp_path / "trace"
    given = environment(tmp_path, home)
    command = [sys.executable, str(HERE / "quiet_process.py"), str(model)]
    if strace := shutil.which("strace"):  # sees native code and subprocesses too
        command = [strace, "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto", "-o", str(trace), *command]
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}

    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    sent = trace.read_text().splitlines() if strace else []
    # A socket of the family netlink or unix leads nowhere outside the machine.
    outside = [line for line in sent if "AF_INET" in line]
    assert (done.stdout.strip(), outside) == ("[]", [])
    assert list(home.rglob("*")) == []
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before
    assert [path.name for path in (tmp_path / "hf").iterdir()] == ["gliclass-rerank"]
    assert list((tmp_path / "tmp").iterdir()) == []
    attack.attempt("telemetry", lambda: done.returncode)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space")
@pytest.mark.parametrize(
    ("backend", "dtype", "tries"),
    [
        ("onnx", "int8", 2),
        ("onnx", "float32", 1),
        ("torch", "float32", 1),
    ],
)
def test_too_little_memory_is_our_error_and_changes_no_later_score(attack, tmp_path, backend, dtype, tries):
    """Without OpenVINO, which may crash: it is not chosen by itself where memory has a limit."""
    pytest.importorskip(PACKAGES.get(backend, "torch"))
    surface = f"memory {backend} {dtype}"
    remaining, outcomes = max(tries, attack.budget(tries) // 3), []  # a try takes seconds
    while remaining > 0:
        count = min(remaining, 25)
        argv = [sys.executable, HERE / "starved_process.py", backend, dtype, remaining, count]
        done = attack.command(surface, argv, limit_s=300, env={"HF_HOME": str(tmp_path / "hf")})
        found = [] if done is None else done.stdout.splitlines()
        assert len(found) == count, f"{surface}: ended early: {done and done.stderr[-1000:]}"
        outcomes += found
        remaining -= count

    def told(outcome):
        if outcome.startswith("foreign"):
            raise RuntimeError(outcome)
        if not outcome.startswith("answered"):  # all others are a BackendError
            raise BackendError(outcome)

    for outcome in outcomes:
        attack.attempt(surface, lambda outcome=outcome: told(outcome))
    assert len(outcomes) < 10 or set(outcomes) > {"answered"}, "there was always memory enough"


class Makers:
    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "killed_maker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout.readline() == "ready\n"

    def make(self, kind, model, folder, *, killed_after=0.0):
        """Whether it ended by itself; raises where it failed."""
        self._process.stdin.write(f"{kind}\t{model}\t{folder}\t{killed_after}\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL), f"ended with {code}"
        return code == 0

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def makers():
    if not hasattr(os, "fork"):
        pytest.skip("forks")
    pytest.importorskip("onnxruntime")
    one = Makers()
    yield one
    one.close()


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["export", "precompute"])
def test_a_killed_run_leaves_nothing_that_the_next_one_does_not_mend(attack, tmp_path, model, makers, kind):
    def target(name):
        return tmp_path / name / ("cache" if kind == "export" else "states")

    for name in ("whole", "killed"):
        target(name).parent.mkdir()
    started = time.monotonic()
    assert makers.make(kind, model, target("whole"))
    took = time.monotonic() - started
    expected, chance, num_left = contents(target("whole")), random.Random(5), 0
    for _ in range(attack.budget(2)):
        makers.make(kind, model, target("killed"), killed_after=chance.uniform(0.2, 1.0) * took)
        attack.killed(kind)
        held = target("killed") if kind == "export" else target("killed").parent
        num_left += any(path.name.startswith(".") for path in held.glob(".*"))
        if kind == "precompute" and target("killed").exists():  # it was quicker: complete, and never overwritten
            assert contents(target("killed")) == expected
            shutil.rmtree(target("killed"))
        assert makers.make(kind, model, target("killed"))
        assert contents(target("killed")) == expected
        assert list(held.glob(".*")) == []
        shutil.rmtree(target("killed"))
    assert num_left or attack.budget(2) < 20, "no kill came while something was half made"
