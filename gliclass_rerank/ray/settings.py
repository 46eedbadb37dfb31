"""Arguments of the Ray Serve application: settings of the deployment, the server and the models in one mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from gliclass_rerank.checks import checked_count, of_settings
from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.serve.settings import ServeSettings
from gliclass_rerank.settings import RerankerSettings

_COUNTS: Final = ("min_replicas", "max_replicas", "max_ongoing_requests", "max_queued_requests")
# Ray's own: its proxies listen and log, and its replicas are the workers.
_OF_RAY: Final = frozenset(
    {
        "host",
        "port",
        "workers",
        "root_path",
        "shutdown_timeout",
        "log_format",
        "log_request_texts",
        "tracing",
        "reranker",
    }
)
_TRUTH: Final = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, kw_only=True)
class DeploymentSettings:
    """Settings of the deployment."""

    min_replicas: int = 1
    """Replicas that always run; each has models, queue and cache of its own."""
    max_replicas: int = 4
    """Replicas under load."""
    target_ongoing_requests: float = 4.0
    """Requests of a replica, running and waiting, above which another one starts."""
    max_ongoing_requests: int = 32
    """Requests of a replica, from which it makes its batches; more wait in the proxies."""
    max_queued_requests: int = 256
    """Requests that may wait in a proxy; more are answered with 429 and Retry-After."""
    retry_after: float = 1.0
    """Seconds in that answer."""
    num_cpus: float = 1.0
    """Processor cores of a replica; also the `threads` of its models, unless these are set."""
    num_gpus: float = 0.0
    """GPUs of a replica; 0.25 for four replicas a GPU."""

    def __post_init__(self) -> None:
        with of_settings():
            for name in _COUNTS:
                checked_count(name, getattr(self, name))
        if self.max_replicas < self.min_replicas:
            raise ConfigError(
                f"`max_replicas` must be at least `min_replicas`, got {self.max_replicas} and {self.min_replicas}"
            )
        if not self.target_ongoing_requests > 0:
            raise ConfigError(f"`target_ongoing_requests` must be above 0, got {shown(self.target_ongoing_requests)}")
        for name in ("retry_after", "num_cpus", "num_gpus"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"`{name}` must not be negative, got {shown(getattr(self, name))}")


class Arguments(NamedTuple):
    """Settings of an application."""

    deployment: DeploymentSettings
    server: ServeSettings


def read_arguments(given: Mapping[str, Any]) -> Arguments:  # Any: YAML
    """Read the arguments of an application.

    Args:
        given: Fields of `DeploymentSettings`, `ServeSettings` and `RerankerSettings` by name, with hyphens or
            underscores. Values may be text, as the command line has them, with blanks between those of a list.

    Returns:
        The settings.

    Raises:
        ConfigError: A name is unknown, or a value is of another type or out of range.
    """
    kinds = (DeploymentSettings, ServeSettings, RerankerSettings)
    known = {each.name: (kind, each) for kind in reversed(kinds) for each in fields(kind) if each.name not in _OF_RAY}
    values: dict[type, dict[str, Any]] = {kind: {} for kind in kinds}
    for name, value in given.items():
        plain = str(name).replace("-", "_")
        if plain not in known:
            near = get_close_matches(plain, known, n=1)
            raise ConfigError(f"there is no setting {shown(name)}" + (f"; did you mean `{near[0]}`?" if near else ""))
        kind, each = known[plain]
        values[kind][plain] = _typed(each, value)
    deployment = DeploymentSettings(**values[DeploymentSettings])
    of_models = values[RerankerSettings]
    if not deployment.num_gpus:
        of_models = {"threads": max(1, int(deployment.num_cpus)), **of_models}
    return Arguments(deployment, ServeSettings(reranker=RerankerSettings(**of_models), **values[ServeSettings]))


def _typed(each: Field[Any], value: Any) -> Any:
    """Value of a field's type; text is read."""
    kind = str(each.type).partition(" ")[0]
    if kind.startswith("tuple["):
        return tuple(value.split() if isinstance(value, str) else map(str, value))
    if not isinstance(value, str):
        return value
    try:
        readers: dict[str, Callable[[str], Any]] = {
            "int": int,
            "float": float,
            "bool": lambda text: _TRUTH[text.lower()],
        }
        return readers.get(kind, str)(value)
    except (KeyError, ValueError):
        raise ConfigError(f"`{each.name}` must be of the type {kind}, got {shown(value)}") from None
