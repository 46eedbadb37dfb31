"""Connections to Ray: without usage statistics, and a local cluster without a dashboard."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from gliclass_rerank._imports import require
from gliclass_rerank.errors import BackendError, ConfigError, cause, shown

LOCAL: Final = "local"
_USAGE_STATS: Final = "RAY_USAGE_STATS_ENABLED"


def require_ray(package: str = "ray") -> ModuleType:
    """Import Ray without its usage statistics.

    A node that this process starts sends none, unless the variable is 1 already; one that runs keeps its own setting.

    Args:
        package: Package of Ray.

    Returns:
        The module.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    os.environ.setdefault(_USAGE_STATS, "0")
    require("ray", extra="ray")
    return require(package, extra="ray")


@contextmanager
def connected(address: str) -> Iterator[ModuleType]:
    """Connect this process to a cluster inside the block, unless it is connected already.

    Args:
        address: Address; `auto` for the cluster of this machine, `local` to start one.

    Yields:
        Ray.

    Raises:
        ConfigError: There is no cluster at the address.
    """
    ray = require_ray()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}  # Any: of several types
    try:
        ray.init(address, logging_level=logging.WARNING, log_to_driver=False, **options)
    except Exception as error:  # Ray raises plain ones too
        raise ConfigError(f"`ray` cannot connect to {shown(address)}: {cause(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def failure(error: BaseException) -> BackendError:
    """Error for what went wrong on a worker: the last line of Ray's, which ends with the worker's own."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return BackendError(f"a worker of the Ray cluster failed: {cause(Exception(lines[-1].strip()))}")
