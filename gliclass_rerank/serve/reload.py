"""Reloading of the models on SIGHUP, beside those that answer."""

from __future__ import annotations

import asyncio
import logging
import signal

from gliclass_rerank.errors import GLiClassRerankError
from gliclass_rerank.serve.engine import Engine
from gliclass_rerank.serve.models import load_models

logger = logging.getLogger("gliclass_rerank.serve")


class Reloader:
    """Loads the models of an engine again, from the same names; requests go on meanwhile.

    Args:
        engine: Engine. If a model cannot be loaded, it keeps the ones that it has.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Reload on SIGHUP, where there is such a signal; called in the event loop."""
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.begin)

    def begin(self) -> None:
        """Begin to reload, unless that is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        logger.info("loading the models again")
        try:
            loaded = await asyncio.to_thread(load_models, self._engine.settings)
        except (GLiClassRerankError, OSError) as error:
            logger.error("error: %s; the former models go on", error)
        else:
            self._engine.models.replace(*loaded.served, classifier=loaded.classifier)
            logger.info("the models were loaded again")
