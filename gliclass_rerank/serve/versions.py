"""Versions of served models: a new current one is loaded beside the old one, which answers until it is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

from gliclass_rerank.checkpoint.versions import version_of
from gliclass_rerank.errors import GLiClassRerankError
from gliclass_rerank.serve.models import Models, ServedModel

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS: Final = 5.0


def following(models: Models) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Lifespan of an application whose models follow their current versions.

    Args:
        models: Models of the server.

    Returns:
        Function from the application to a context manager.
    """

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:  # Any: an application
        task = asyncio.create_task(_follow(models)) if any(map(current_version, models.served)) else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    return lifespan


def current_version(served: ServedModel) -> str | None:
    """Name of the current version on the disk; None for a model without versions."""
    try:
        model = served.reranker.settings.get("model")
        return version_of(model) if isinstance(model, str) else None
    except (GLiClassRerankError, OSError):  # half-written by hand: the loaded one goes on
        return None


async def _follow(models: Models) -> None:
    tried = {served.name: served.version or current_version(served) for served in models.served}
    while True:
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        for served in models.served:
            version = current_version(served)
            if version is None or version in (served.version, tried[served.name]):
                continue
            tried[served.name] = version  # one that cannot be loaded is tried once
            try:
                models.replace(await asyncio.to_thread(served.reloaded, version))
            except (GLiClassRerankError, OSError) as error:
                logger.error("version %s of %s cannot be loaded, the old one goes on: %s", version, served.name, error)
            else:
                logger.info("%s is version %s now", served.name, version)
