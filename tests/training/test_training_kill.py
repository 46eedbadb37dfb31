"""A real process, really killed."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from training_data import tiny_run

from gliclass_rerank.learn.training import train

_SCRIPT = """
import json, sys
from gliclass_rerank.learn.training import TrainConfig, train
train(TrainConfig.from_dict(json.loads(sys.argv[1])))
"""


@pytest.mark.slow
def test_a_process_killed_in_mid_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path, tiny_folders, ranking_file
):
    whole = tiny_run(tmp_path / "whole", tiny_folders["bert"], ranking_file, steps=40, dropout=0.1)
    train(whole)
    parts = replace(whole, output=tmp_path / "parts", checkpoint_every=1)
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, json.dumps(parts.to_dict())])
    states, deadline = parts.output / "states", time.monotonic() + 120
    while len(list(states.glob("step-*"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended by itself"
    assert not (parts.output / "last").exists(), "it was in mid-run"

    assert train(parts).is_finished
    first, second = (load_file(run.output / "last/model.safetensors") for run in (whole, parts))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
