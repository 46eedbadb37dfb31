"""What other libraries raise while a model runs, told as errors of ours: a caller need not know which library ran it.

None of them has a type of its own for a CPU whose memory is full, so their words are looked at; a word that is missing
here costs a smaller batch that would have fitted, never an exception of theirs.
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
    r"bad[ _]alloc"  # C++'s own, in onnxruntime and openvino; `bad allocation` on Windows
    r"|alloc_cpu\.cpp|DefaultCPUAllocator|not enough memory"  # torch
    r"|could not (create|execute) a (primitive|memory)"  # oneDNN in torch, which does not say why
    r"|can.t alloc|failed to allocate|out of memory|cannot allocate memory|allocation failed",
    re.IGNORECASE,
)
# Where in openvino's source it was raised; why comes in a later line.
_PLACE: Final = re.compile(r"Exception from \S+:$")
_LONGEST: Final = 200


@contextmanager
def as_backend_error(what: str) -> Iterator[None]:
    """Turn every exception of another library into one of ours.

    Args:
        what: What failed, such as `onnxruntime failed`; the message begins with it.

    Yields:
        Nothing.

    Raises:
        OutOfMemoryError: The memory did not suffice; a smaller batch may fit.
        BackendError: Anything else.
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
    """Whether an exception of another library says that memory did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return _NO_MEMORY.search(str(error)) is not None


def first_line(error: BaseException) -> str:
    """What an exception of another library says, for a message: its first telling line, cut where that is long."""
    lines = (line.strip() for line in str(error).splitlines())
    telling = (line for line in lines if line and not _PLACE.match(line))
    return next(telling, type(error).__name__)[:_LONGEST]
