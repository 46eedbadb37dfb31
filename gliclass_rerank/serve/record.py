"""Record of a request, kept in its ASGI scope: what its headers, its log line and its span tell of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

_KEY: Final = "gliclass_rerank"
_LONGEST_ID: Final = 128


@dataclass
class Record:
    """Facts of a request, for logs, metrics and headers.

    Attributes:
        id: Id, the client's if it sent a plain one.
        began: Monotonic time of its arrival.
        problem: Kind of problem, if any.
        fields: What the log line has besides.
    """

    id: str
    began: float = field(default_factory=time.monotonic)
    problem: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)  # Any: JSON

    @property
    def seconds(self) -> float:
        """Seconds since the request arrived."""
        return time.monotonic() - self.began


def new_record(scope: MutableMapping[str, Any]) -> Record:  # Any: ASGI
    """Begin the record of a request."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    text = given.decode("latin-1")
    is_plain = 0 < len(text) <= _LONGEST_ID and text.isascii() and text.isprintable()
    record = Record(text if is_plain else uuid.uuid4().hex)
    scope[_KEY] = record
    return record


def record_of(scope: MutableMapping[str, Any]) -> Record:  # Any: ASGI
    """The record of a request."""
    record: Record = scope[_KEY]
    return record
