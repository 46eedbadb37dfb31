"""What other libraries raise becomes an error of ours, and a full memory is known by each one's words."""

import errno

import numpy as np
import pytest
import torch

from gliclass_rerank.errors import BackendError, ConfigError, OutOfMemoryError
from gliclass_rerank.runtime.foreign_errors import as_backend_error

# As raised under RLIMIT_AS by torch 2.13, onnxruntime 1.31, openvino 2026.4.
NO_MEMORY = [
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "23592960 bytes. Error code 12 (Cannot allocate memory)",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Transpose node. "
    "Name:'Transpose_23' Status Message: std::bad_alloc",
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running MatMul node. Name:'MatMul_24' Status "
    "Message: bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 188743680\n",
    "Exception from src/inference/src/cpp/infer_request.cpp:224:\nException from plugins/intel_cpu/src/node.cpp:794:\n"
    "[CPU] Gather node with name 'Gather_13' Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257:\n"
    "Failed to allocate 23592960 bytes of memory\n",
    "Exception from src/inference/src/cpp/infer_request.cpp:224:\nException from plugins/intel_cpu/src/node.cpp:823:\n"
    "[CPU] Subgraph node with name 'MatMul_33' can't alloc\n",
]


def raised(error):
    with pytest.raises(BackendError) as caught, as_backend_error("it failed"):
        raise error
    return caught.value


@pytest.mark.parametrize("text", NO_MEMORY)
def test_a_full_memory_is_known_by_the_words_of_each_library(text):
    found = raised(RuntimeError(text))

    assert isinstance(found, OutOfMemoryError)
    assert str(found).startswith("it failed: [")
    assert "\n" not in str(found)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "mmap"), torch.OutOfMemoryError("CUDA")])
def test_a_full_memory_is_known_by_its_type(error):
    assert isinstance(raised(error), OutOfMemoryError)


def test_memory_that_does_not_suffice_is_said_by_torch_and_numpy_themselves():
    for allocate in (lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: np.empty(1 << 60, dtype=np.uint8)):
        with pytest.raises(OutOfMemoryError), as_backend_error("it failed"):
            allocate()


@pytest.mark.parametrize("error", [RuntimeError("a shape"), KeyError("x"), OSError(errno.ENOENT, "gone"), ValueError()])
def test_anything_else_fails_the_backend(error):
    assert type(raised(error)) is BackendError
    assert raised(error).__cause__ is error


def test_our_own_errors_and_an_interruption_pass():
    for error in (ConfigError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, as_backend_error("it failed"):
            raise error
        assert caught.value is error
