"""The command for the first minutes on a GPU works without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="a source distribution has no benchmarks")
FIELDS = {"model", "plan", "queries", "passages", "forwards", "launches", "copies_in", "syncs"}


def checked(out, *arguments):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return done, json.loads(out.read_text(encoding="utf-8")) if out.exists() else None


def test_a_dry_run_prints_what_is_asked_of_a_gpu_and_saves_each_stage(tmp_path):
    pytest.importorskip("torch.nn.attention.varlen", reason="an old torch has no packed attention")
    arguments = (
        "--dry-run",
        "--models",
        "MiniLM-L6",
        "--cases",
        "1x20",
        "--stages",
        "machine",
        "waits",
        "speed",
        "memory",
    )

    done, results = checked(tmp_path / "folder" / "gpu.json", *arguments)

    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)["cases"]
    assert all(FIELDS | {"tokens_computed", "tokens_real"} <= case.keys() for case in cases)
    assert [case["plan"] for case in cases] == ["shared_query", "joint"]
    assert results["cases"] == cases
    assert results["memory"]["threads_agree"]
    assert list(results["seconds"]) == ["machine", "waits", "speed", "memory"]


@pytest.mark.slow
def test_every_stage_passes_a_dry_run(tmp_path):
    done, results = checked(tmp_path / "gpu.json", "--dry-run", "--cases", "1x20", "64x20")

    assert done.returncode == 0, done.stderr
    assert all(case["largest_difference"] < 1e-4 for case in results["parity"])


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_says_so(tmp_path):
    done, results = checked(tmp_path / "gpu.json")

    assert done.returncode == 1
    assert "torch finds no CUDA device here" in done.stderr
    assert results is None
