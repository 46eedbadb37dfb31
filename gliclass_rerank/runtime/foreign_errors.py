"""Translation of third-party exceptions into ours.

No library has an exception type for exhausted CPU memory, so messages are matched. A pattern missing here costs a retry
with a smaller batch; the exception is still translated.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from gliclass_rerank.errors import BackendError, GLiClassRerankError, OutOfMemoryError

_NO_MEMORY: Final = re.compile(
    r"bad[ _]alloc"  # C++ in onnxruntime and openvino; `bad allocation` on Windows
    r"|alloc_cpu\.cpp|DefaultCPUAllocator|not enough memory"  # torch
    r"|could not (create|execute) a (primitive|memory)"  # oneDNN in torch, which gives no cause
    r"|can.t alloc|failed to allocate|out of memory|cannot allocate memory|allocation failed",
    re.IGNORECASE,
)
# Source location of an OpenVINO error; the cause follows on a later line.
_PLACE: Final = re.compile(r"Exception from \S+:$")
_LONGEST: Final = 200


@contextmanager
def as_backend_error(what: str) -> Iterator[None]:
    """Convert every third-party exception in the block into one of ours.

    Args:
        what: Beginning of the message, such as `onnxruntime failed`.

    Yields:
        Nothing.

    Raises:
        OutOfMemoryError: Memory was exhausted; a smaller batch may fit.
        BackendError: Any other failure.
    """
    try:
        yield
    except GLiClassRerankError:
        raise
    except Exception as error:
        raise backend_error(what, error) from error


def backend_error(what: str, error: Exception) -> GLiClassRerankError:
    """An exception of another library as one of ours; one of ours stays what it is.

    Args:
        what: As for `as_backend_error`.
        error: The exception.

    Returns:
        An `OutOfMemoryError` if the memory did not suffice, else a `BackendError`.
    """
    if isinstance(error, GLiClassRerankError):
        return error
    kind = OutOfMemoryError if is_out_of_memory(error) else BackendError
    return kind(f"{what}: {first_line(error)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Test for a third-party exception that reports exhausted memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return _NO_MEMORY.search(str(error)) is not None


def first_line(error: BaseException) -> str:
    """First informative line of an exception's message, truncated."""
    lines = (line.strip() for line in str(error).splitlines())
    telling = (line for line in lines if line and not _PLACE.match(line))
    return next(telling, type(error).__name__)[:_LONGEST]
