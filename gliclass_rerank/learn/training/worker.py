"""Worker process of a training run, controlled by `Workers` over pipes.

The first input line is its job, each further one a step number, answered with the result. It exits with its input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any, TextIO

import torch

from gliclass_rerank.learn.training.config import TrainConfig
from gliclass_rerank.learn.training.gradients import Gradients
from gliclass_rerank.learn.training.optimizer import freeze, set_dropout
from gliclass_rerank.learn.training.shared_memory import SharedMemory
from gliclass_rerank.learn.training.start import load_start
from gliclass_rerank.learn.training.stream import prepared


def main() -> None:
    """Work until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Library output must not be mistaken for an answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    line = sys.stdin.readline()
    if line:
        _work(json.loads(line), sys.stdin, answers)


def _work(job: Mapping[str, Any], steps: TextIO, answers: TextIO) -> None:  # Any: JSON
    config, share = TrainConfig.from_dict(job["config"]), job["share"]
    torch.set_num_threads(config.threads or 1)
    checkpoint = load_start(config.start)
    model = checkpoint.model
    freeze(model, embeddings=config.freeze_embeddings, layers=config.frozen_layers)
    set_dropout(model, config.dropout)
    parameters = list(model.parameters())
    memory = SharedMemory(job["file"], parameters, config.processes)
    for parameter, weights in zip(parameters, memory.weights, strict=True):
        parameter.data = weights
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    own = memory.gradients[share - 1]
    for parameter, gradient in zip(trained, own, strict=True):
        parameter.grad = gradient  # backward passes accumulate in place
    gradients = Gradients(config, checkpoint, share)
    with closing(prepared(gradients.prepare, job["step"])) as batches:
        for step in map(int, steps):
            torch._foreach_zero_(own)
            part = gradients.add(next(batches), step)
            answers.write(json.dumps(asdict(part)) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
