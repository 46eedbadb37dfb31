"""Log lines of the server, as text or JSON; texts of requests are in them only if asked for."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final

from gliclass_rerank.serve.settings import LogFormat

# uvicorn's own line for each request would be a second one.
_SILENT: Final = "uvicorn.access"


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return " ".join([line, *(f"{name}={json.dumps(value)}" for name, value in _fields(record).items())])


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _fields(record: logging.LogRecord) -> dict[str, Any]:  # Any: JSON
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def set_up_logs(log_format: LogFormat) -> None:
    """Send the log lines of this process to stderr.

    Args:
        log_format: Format of a line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger(_SILENT).disabled = True
