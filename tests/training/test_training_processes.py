"""Several processes that share the items of each step."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_data import tiny_run

from gliclass_rerank.errors import BackendError, ConfigError
from gliclass_rerank.learn.training import train

_SCRIPT = """
import json, sys
from gliclass_rerank.learn.training import TrainConfig, train
train(TrainConfig.from_dict(json.loads(sys.argv[1])))
"""


def children(pid="self"):
    tasks = Path("/proc", str(pid), "task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def runs(pid):
    status = Path("/proc", str(pid), "stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def weights(config):
    return load_file(config.output / "last/model.safetensors")


def test_two_processes_learn_what_one_does(tmp_path, tiny_folders, ranking_file):
    one = tiny_run(tmp_path / "one", tiny_folders["bert"], ranking_file, queries_per_step=3)
    two = replace(one, output=tmp_path / "two", processes=2)
    reports = {}
    for config in (one, two):
        found = reports[config.processes] = []
        train(config, on_report=found.append)
    assert not children(), "the other process has ended"
    assert [report.loss for report in reports[2]] == pytest.approx([report.loss for report in reports[1]], rel=1e-3)
    tokens = [
        [line.split(",")[4] for line in (run.output / "train.csv").read_text().splitlines()] for run in (one, two)
    ]
    assert tokens[0] == tokens[1], "tokens of both are counted"
    start = load_file(tiny_folders["bert"] / "model.safetensors")
    first, second = weights(one), weights(two)
    for name in first.keys() - {name for name in first if name.endswith("key.bias")}:  # their gradients are noise
        tensor = first[name]
        moved = (tensor - start[name]).norm()
        assert (second[name] - tensor).norm() <= 0.05 * moved + 1e-6, name


def test_a_process_that_dies_ends_the_run(tmp_path, tiny_folders, ranking_file, capfd):
    config = tiny_run(tmp_path / "out", tiny_folders["bert"], ranking_file, steps=10**6, processes=2)

    def kill(report):
        if report.step == 2:
            os.kill(children()[0], signal.SIGKILL)

    with pytest.raises(BackendError, match="training process ended with exit status -9"):
        train(config, on_report=kill)
    assert not children()


@pytest.mark.slow
def test_a_killed_run_takes_its_processes_along_and_can_be_resumed(tmp_path, tiny_folders, ranking_file):
    whole = tiny_run(tmp_path / "whole", tiny_folders["bert"], ranking_file, steps=40, processes=2)
    train(whole)
    parts = replace(whole, output=tmp_path / "parts", checkpoint_every=1)
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, json.dumps(parts.to_dict())])
    states, deadline = parts.output / "states", time.monotonic() + 120
    while len(list(states.glob("step-*"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    others = children(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended by itself"
    while any(map(runs, others)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(others) == 1
    assert not any(map(runs, others))

    assert train(parts).is_finished
    first, second = weights(whole), weights(parts)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_more_processes_than_items_are_refused(tmp_path, ranking_file):
    with pytest.raises(ConfigError, match="at most `queries_per_step` = 2, got 3"):
        tiny_run(tmp_path, tmp_path, ranking_file, processes=3)
