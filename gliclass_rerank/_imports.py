"""Imports on demand: lazy package names, optional packages without their telemetry, a lock around transformers."""

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

# Held wherever transformers is imported: it resolves its parts lazily, and two threads that ask for different ones at
# once can each meet modules that the other has half imported.
TRANSFORMERS_LOCK: Final = threading.RLock()

if hasattr(os, "register_at_fork"):
    # A forked process could never import what another thread was importing: a fork waits for the import.
    os.register_at_fork(
        before=TRANSFORMERS_LOCK.acquire,
        after_in_parent=TRANSFORMERS_LOCK.release,
        after_in_child=TRANSFORMERS_LOCK.release,
    )


def lazy_names(
    package: str, names: Sequence[str], homes: Mapping[str, str], *, otherwise: str
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make a package's `__getattr__` and `__dir__` (PEP 562), so that importing it loads nothing heavy.

    Args:
        package: Its name.
        names: Exported names.
        homes: Module that defines a name, relative to the package.
        otherwise: Module of the names that `homes` leaves out.

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
        package: Import name; not `onnxruntime` or `openvino`, which have functions of their own.
        extra: Extra of gliclass-rerank that installs it.

    Returns:
        The imported module.

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

    From 1.29 on its import leaves a device id and a database in the user's cache folder and sends events, unless this
    variable says otherwise (its Privacy.md). The thread that does so is one that a forked process waits for for ever
    when it ends. Who wants all that sets the variable to 0.

    Args:
        extra: As for `require`.

    Returns:
        The module.

    Raises:
        MissingDependencyError: It is not installed.
    """
    is_off = os.environ.setdefault(_NO_ONNX_TELEMETRY, "1") != "0"
    onnxruntime = require("onnxruntime", extra=extra)
    if is_off:
        onnxruntime.disable_telemetry_events()  # on Windows there are events that the variable does not stop
    return onnxruntime


def require_openvino() -> ModuleType:
    """Import openvino without its telemetry.

    Its import writes a client id into the home folder and sends an event, unless a file in the home folder says
    otherwise, which is not ours to write; no variable stops it. But the package that does so is one it can do without
    (it has a stand-in), and so it does not find that package while it is imported.

    Returns:
        The module.

    Raises:
        MissingDependencyError: It is not installed.
    """
    with _IMPORTING:
        if "openvino" in sys.modules:
            return require("openvino", extra="openvino")
        with _hidden(_OPENVINO_TELEMETRY):
            return require("openvino", extra="openvino")


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let imports of a package fail; one that is imported already stays what it is afterwards."""
    there = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    for name in there:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment] # documented: an import raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(there)
