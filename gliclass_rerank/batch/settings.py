"""Settings of a batch job; the model's own are in `gliclass_rerank.settings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gliclass_rerank.checks import checked_count, of_settings
from gliclass_rerank.errors import ConfigError, shown

_COUNTS: Final = ("top_k", "part_bytes", "ray_workers")


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """Settings of a batch job."""

    top_k: int | None = None
    """Hits of a row; None for all."""
    texts: bool = True
    """Put the passages' texts into the hits; without, `index` says which passage a hit is."""
    part_bytes: int = 2 * 1024 * 1024
    """Input that is ranked, stored and, after a kill, repeated together."""
    ray: str | None = None
    """Address of a Ray cluster, such as `10.0.0.1:6379` or `auto`; `local` starts one on this machine."""
    ray_workers: int | None = None
    """Processes on the cluster, each with a model; None for as many as it has room for."""
    ray_cpus: float = 1.0
    """Processor cores of a worker; also its `threads`, unless they are set."""
    ray_gpus: float = 0.0
    """GPUs of a worker; 0.25 for four workers a GPU."""

    def __post_init__(self) -> None:
        with of_settings():
            for name in _COUNTS:
                if (count := getattr(self, name)) is not None:
                    checked_count(name, count)
        for name in ("ray_cpus", "ray_gpus"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"`{name}` must not be negative, got {shown(getattr(self, name))}")
