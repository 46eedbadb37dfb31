"""Runs a piece of work in a forked process, and says what became of it."""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback


class Child:
    """A forked process that does some work.

    Args:
        work: Returns a JSON value. It runs after the fork and nothing after it.
    """

    def __init__(self, work):
        self._pipe, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:  # whatever happens, it must not go on as a second pytest
            try:
                os.close(self._pipe)
                try:
                    said = ["done", work()]
                except BaseException as error:  # noqa: BLE001 - the parent is told
                    traceback.print_exc()
                    said = [type(error).__name__, str(error)]
                os.write(writing, json.dumps(said).encode())
            finally:
                os._exit(0)
        os.close(writing)

    def result(self, limit_s=60.0):
        """What the work returned, as `["done", value]`, or the error's type and message; a hang is `["hung", None]`."""
        end, received = time.monotonic() + limit_s, b""
        while True:
            readable, _, _ = select.select([self._pipe], [], [], max(0.0, end - time.monotonic()))
            if not readable:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                os.close(self._pipe)
                return ["hung", None]
            part = os.read(self._pipe, 65536)
            if not part:
                break
            received += part
        os.waitpid(self.pid, 0)
        os.close(self._pipe)
        return json.loads(received) if received else ["died", None]
