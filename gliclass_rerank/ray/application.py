"""Ray Serve application: the server's own ASGI application in replicas behind Ray's proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gliclass_rerank.ray.cluster import require_ray
from gliclass_rerank.ray.settings import read_arguments
from gliclass_rerank.serve.app import create_app
from gliclass_rerank.serve.models import load_models
from gliclass_rerank.serve.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

# Imported before Ray starts a node, which decides then on its usage statistics.
serve: Any = require_ray("ray.serve")  # Any: untyped here

# A new replica answers before an old one goes.
_SURGE_PERCENT: Final = 100


class Replica:
    """Replica of the server; answers when its models are warm.

    Args:
        settings: Settings of the server.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._models = load_models(settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the application; Ray calls this when the models are loaded."""
        return create_app(self._settings, self._models)


def app(args: dict[str, Any]) -> Any:  # Any: YAML, and Ray's application
    """Build the application, for `serve run gliclass_rerank.ray:app NAME=VALUE ...` and `import_path` in YAML.

    Args:
        args: Settings by name, see `read_arguments`.

    Returns:
        Ray Serve application.

    Raises:
        ConfigError: A name is unknown, or a value is of another type or out of range.
    """
    own, server = read_arguments(args)
    deployment = serve.deployment(
        name="reranker",
        ray_actor_options={"num_cpus": own.num_cpus, "num_gpus": own.num_gpus},
        max_ongoing_requests=own.max_ongoing_requests,
        max_queued_requests=own.max_queued_requests,
        backpressure_config={"status_code": 429, "retry_after_s": own.retry_after},
        autoscaling_config={
            "min_replicas": own.min_replicas,
            "max_replicas": own.max_replicas,
            "target_ongoing_requests": own.target_ongoing_requests,
        },
        max_surge_percent=_SURGE_PERCENT,
    )
    return deployment(serve.ingress()(Replica)).bind(server)
