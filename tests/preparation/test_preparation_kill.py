"""A real process, really killed."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from preparation_data import ENCODER, classified, write_lines

from gliclass_rerank.learn.data.rac_data import RacData, make_rac_data

ROOT = Path(__file__).parents[2]

if not hasattr(os, "fork"):
    pytest.skip("runs are forked", allow_module_level=True)


class Runs:
    """The program that forks runs."""

    def __init__(self):
        paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killed_rac_data.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )

    def _read(self):
        return self._process.stdout.readline().strip()

    def kill_after(self, source, target, stage, count):
        """Start a run and kill it when a stage has gone on so many times."""
        self._process.stdin.write(f"{source}\t{target}\n")
        self._process.stdin.flush()
        pid = int(self._read())
        while count:
            said = self._read()
            assert said != "dead", "it had ended by itself"
            count -= said == stage
        os.kill(pid, signal.SIGKILL)
        while self._read() != "dead":
            pass

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


@pytest.fixture
def runs():
    started = Runs()
    yield started
    started.close()


class CountingEncoder:
    """Counts what it embeds."""

    fingerprint = ENCODER.fingerprint

    def __init__(self):
        self.num_texts = 0

    def encode(self, texts):
        self.num_texts += len(texts)
        return ENCODER.encode(texts)


@pytest.mark.slow
def test_a_run_killed_while_it_encodes_and_while_it_writes_ends_with_the_same_file(runs, tmp_path):
    source, target, whole = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    write_lines(source, classified(600))
    make_rac_data(whole, RacData(source=source, seed=7), ENCODER)

    runs.kill_after(source, target, "texts encoded", 2)
    vectors = tmp_path / "out.jsonl.partial.scratch" / "vectors.f32"
    assert vectors.stat().st_size >= 2 * 256 * 48 * 4, "two shards are kept"
    runs.kill_after(source, target, "records", 3)
    assert not target.exists()
    with (tmp_path / "out.jsonl.partial").open("ab") as handle:
        handle.write(b'{"text": "half a li')  # what a kill within a write leaves

    encoder, done = CountingEncoder(), {}

    def watch(stage, total, before=0):
        done[stage] = before
        return nullcontext(lambda count: None)

    make_rac_data(target, RacData(source=source, seed=7), encoder, progress=watch)
    assert target.read_bytes() == whole.read_bytes()
    assert done["texts encoded"] == 600
    assert 3 * 64 <= done["records"] < 600
    assert encoder.num_texts == 1, "only the text that tells the vectors' length"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "whole.jsonl"]
