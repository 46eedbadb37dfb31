"""Batches and serving on a Ray cluster; needs the extra `ray`.

Loaded when a name is first used. Ray's usage statistics are off, unless `RAY_USAGE_STATS_ENABLED` says otherwise.
"""

from __future__ import annotations

from gliclass_rerank._imports import lazy_names

__all__ = ["RerankActor", "app"]

__getattr__, __dir__ = lazy_names(__name__, __all__, {"RerankActor": "actor"}, otherwise="application")
