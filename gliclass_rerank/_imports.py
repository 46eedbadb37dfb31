"""Imports on demand: lazy package names, moved modules, optional packages without their telemetry, a lock."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
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
        homes: Module that defines a name, relative to the package; a leading dot goes one package up.
        otherwise: Module of the names that `homes` leaves out.

    Returns:
        Both functions.
    """

    def resolved(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{homes.get(name, otherwise)}", package), name)

    return resolved, lambda: list(names)


class _MovedLoader(importlib.abc.InspectLoader):
    """Loads a module under a former name: a module is the one that it is now, a package forwards to it."""

    def __init__(self, name: str, now: str, *, is_package: bool) -> None:
        self._name, self._now, self._is_package = name, now, is_package

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002 # Python's signature
        return self._is_package

    def get_source(self, fullname: str) -> None:  # noqa: ARG002 # Python's signature
        return None

    def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002 # Python's signature
        """The code that `python -m` runs; it asks for nothing else."""
        self._warn(in_module="__main__")
        spec = importlib.util.find_spec(self._now)
        loader = spec.loader if spec is not None else None
        return loader.get_code(self._now) if isinstance(loader, importlib.abc.InspectLoader) else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill in what `import` made; Python takes what is in `sys.modules` afterwards."""
        self._warn(in_module=None)
        now = importlib.import_module(self._now)
        if self._is_package:
            # Not the package itself: it would import its modules a second time, under their former names.
            module.__getattr__ = partial(getattr, now)  # type: ignore[method-assign] # PEP 562
        else:
            sys.modules[self._name] = now

    def _warn(self, *, in_module: str | None) -> None:
        message = f"`{self._name}` is `{self._now}` now; the former name goes with the next release"
        if in_module is None:
            warnings.warn(message, DeprecationWarning, stacklevel=3)  # Python leaves the import's own frames out
        else:
            # There is no caller to blame; in `__main__` such a warning is shown.
            warnings.warn_explicit(message, DeprecationWarning, self._name, 1, module=in_module)


class MovedModules(importlib.abc.MetaPathFinder):
    """Finds modules of a package under their former names.

    Args:
        package: The package.
        moved: Names of today by former names, both relative to the package. What a former package held has moved with
            it, unless it is named too.
    """

    def __init__(self, package: str, moved: Mapping[str, str]) -> None:
        self._package, self._moved = package, moved

    def install(self) -> None:
        """Ask this finder before all others, which would find modules of a package that has moved twice."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 # Python's signature
        target: ModuleType | None = None,  # noqa: ARG002 # Python's signature
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        former = fullname.removeprefix(f"{self._package}.")
        root = former.partition(".")[0]
        if former == fullname or root not in self._moved:
            return None
        now = f"{self._package}.{self._moved.get(former) or self._moved[root] + former.removeprefix(root)}"
        found = importlib.util.find_spec(now)
        if found is None:
            return None
        is_package = found.submodule_search_locations is not None
        loader = _MovedLoader(fullname, now, is_package=is_package)
        return ModuleSpec(fullname, loader, origin=found.origin, is_package=is_package)


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
    modules = sys.modules.copy()  # at once, because other threads import meanwhile
    there = {name: module for name, module in modules.items() if name.partition(".")[0] == package}
    for name in there:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment] # documented: an import raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(there)
