"""Worker processes that compute gradients of their share of each step's items."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import torch
from torch import nn

from gliclass_rerank.errors import BackendError, ConfigError
from gliclass_rerank.learn.training.config import TrainConfig
from gliclass_rerank.learn.training.gradients import Part
from gliclass_rerank.learn.training.shared_memory import SharedMemory, shared_file

_SECONDS_TO_END = 5.0


class Workers:
    """Worker processes of a run; a context manager that ends them.

    They are separate commands, because OpenMP threads do not survive a fork. When this process dies, their input ends
    and
    they stop.

    Args:
        config: Config of the run.
        model: Frozen model, whose weights they use.
        step: First step.

    Raises:
        ConfigError: Several processes are not supported here.
    """

    def __init__(self, config: TrainConfig, model: nn.Module, step: int) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._parameters = list(model.parameters())
        self._trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        if config.processes == 1:
            return
        if os.name != "posix" or self._parameters[0].device.type != "cpu":
            raise ConfigError(f"`processes` must be 1 on a GPU and on Windows, got {config.processes}")
        file = shared_file(SharedMemory.size(self._parameters, config.processes))
        try:
            self._memory = SharedMemory(file, self._parameters, config.processes)
            torch._foreach_copy_(self._memory.weights, [parameter.detach() for parameter in self._parameters])
            for share in range(1, config.processes):
                self._processes.append(_started(config, file, share, step))
        finally:
            os.close(file)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            assert process.stdin is not None, "a pipe"
            assert process.stdout is not None, "a pipe"
            process.stdout.close()
            with suppress(BrokenPipeError):  # it has ended by itself
                process.stdin.close()
        for process in self._processes:
            _end(process)

    def start(self, step: int) -> None:
        """Publish the weights and start a step."""
        if self._processes:
            shared = zip(self._memory.weights, self._parameters, strict=True)
            trained = [(theirs, ours.detach()) for theirs, ours in shared if ours.requires_grad]
            torch._foreach_copy_([theirs for theirs, _ in trained], [ours for _, ours in trained])
        for process in self._processes:
            assert process.stdin is not None, "a pipe"
            with suppress(BrokenPipeError):  # `finish` says so
                process.stdin.write(f"{step}\n")
                process.stdin.flush()

    def finish(self) -> list[Part]:
        """Wait for all and add their gradients to this process's; a `BackendError` if one has ended."""
        parts = []
        for process, gradients in zip(self._processes, self._gradients(), strict=True):
            assert process.stdout is not None, "a pipe"
            line = process.stdout.readline()
            if not line:
                raise BackendError(
                    f"a training process ended with exit status {process.wait()}; see its messages above"
                )
            parts.append(Part(**json.loads(line)))
            used = [
                (parameter.grad, gradient)
                for parameter, gradient in zip(self._trained, gradients, strict=True)
                if parameter.grad is not None
            ]
            torch._foreach_add_([own for own, _ in used], [other for _, other in used])
        return parts

    def _gradients(self) -> Sequence[Sequence[torch.Tensor]]:
        return self._memory.gradients if self._processes else ()


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _started(config: TrainConfig, file: int, share: int, step: int) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", "gliclass_rerank.learn.training.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(file,),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdin is not None, "a pipe"
    job = {"config": config.to_dict(), "file": file, "share": share, "step": step}
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    return process
