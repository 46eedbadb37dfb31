"""Imports of optional packages, with an error that names the extra to install."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from gliclass_rerank.errors import MissingDependencyError


def require(package: str, *, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        package: Import name.
        extra: Extra of gliclass-rerank that installs it.

    Returns:
        The imported module.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    if package.partition(".")[0] == "onnxruntime":
        # From 1.29 on it reports to its maker from a thread that starts when it is imported: nobody was asked, and a
        # forked process waits for the thread for ever when it ends.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise MissingDependencyError(package, extra) from error
