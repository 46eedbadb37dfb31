"""Deferred imports: lazy package names, optional packages without telemetry, a lock around transformers."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Final

from gliclass_rerank.errors import MissingDependencyError

_NO_ONNX_TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"
_OPENVINO_TELEMETRY: Final = "openvino_telemetry"
_IMPORTING: Final = threading.Lock()

# Held wherever transformers is imported: it resolves its parts lazily, and concurrent imports can see
# half-imported modules.
TRANSFORMERS_LOCK: Final = threading.RLock()

if hasattr(os, "register_at_fork"):
    # A fork waits for running imports, which the child could never finish.
    os.register_at_fork(
        before=TRANSFORMERS_LOCK.acquire,
        after_in_parent=TRANSFORMERS_LOCK.release,
        after_in_child=TRANSFORMERS_LOCK.release,
    )


def lazy_names(
    package: str, names: Sequence[str], homes: Mapping[str, str], *, otherwise: str
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Build a package's `__getattr__` and `__dir__` (PEP 562), so that importing it loads nothing heavy.

    Args:
        package: Name of the package.
        names: Exported names.
        homes: Defining module of a name, relative to the package.
        otherwise: Defining module of all other names.

    Returns:
        Both functions.
    """

    def resolved(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes.get(name, otherwise)}"), name)

    return resolved, lambda: list(names)


def require(package: str, *, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        package: Import name; for `onnxruntime` and `openvino` use their own functions.
        extra: Extra of gliclass-rerank that installs it.

    Returns:
        The module.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise MissingDependencyError(package, extra) from error


def require_onnxruntime(*, extra: str) -> ModuleType:
    """Import onnxruntime without its telemetry.

    Since 1.29 its import stores a device id in the user's cache folder and sends events, unless an environment variable
    forbids it; a forked process can hang at exit on the sending thread. Set the variable to 0 to allow telemetry.

    Args:
        extra: Extra of gliclass-rerank that installs it.

    Returns:
        The module.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    is_off = os.environ.setdefault(_NO_ONNX_TELEMETRY, "1") != "0"
    onnxruntime = require("onnxruntime", extra=extra)
    if is_off:
        onnxruntime.disable_telemetry_events()  # on Windows some events ignore the variable
    return onnxruntime


def require_openvino() -> ModuleType:
    """Import openvino without its telemetry.

    Its import stores a client id in the home folder and sends an event; no variable stops it. The telemetry package is
    optional, so it is hidden during the import.

    Returns:
        The module.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    with _IMPORTING:
        if "openvino" in sys.modules:
            return require("openvino", extra="openvino")
        with _hidden(_OPENVINO_TELEMETRY):
            return require("openvino", extra="openvino")


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Make imports of a package fail inside the block."""
    there = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    for name in there:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment] # documented: an import raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(there)
