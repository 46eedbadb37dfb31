"""Imports of optional packages, with an error that names the extra to install."""

from __future__ import annotations

import importlib
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
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise MissingDependencyError(package, extra) from error
