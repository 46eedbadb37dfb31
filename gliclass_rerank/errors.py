"""Exceptions of this library.

```
GLiClassRerankError
├── ConfigError (ValueError)              unknown or inconsistent setting
├── InputError (ValueError)               invalid call argument
│   └── WindowOverflowError               query and markers leave no room for a passage
├── CheckpointError                       missing, unexpected or mis-shaped weights; names listed
├── DataError (ValueError)                unusable file: evaluation data (with the line), store, cache
├── MissingDependencyError (ImportError)  .package, .extra
└── BackendError (RuntimeError)           failed forward pass, encoder or example store; .reason
    └── OutOfMemoryError                  not even the smallest batch fits the device
```

Errors also derive from the builtin that a caller would expect. A message states problem, constraint and offending value
in one sentence; a second one may suggest a remedy.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Final

MAX_SHOWN: Final = 80
_MAX_LISTED = 5
_MOST_DIGITS: Final = 10**MAX_SHOWN


class GLiClassRerankError(Exception):
    """Base of all exceptions of gliclass-rerank."""


class ConfigError(GLiClassRerankError, ValueError):
    """Unknown, out-of-range or contradictory setting."""


class InputError(GLiClassRerankError, ValueError):
    """Invalid call argument; the message names it and shows its value."""


class WindowOverflowError(InputError):
    """Query, examples and markers fill the window and leave no room for a candidate."""


class CheckpointError(GLiClassRerankError):
    """Checkpoint that is incomplete, unsafe to read or inconsistent with its config."""


class DataError(GLiClassRerankError, ValueError):
    """Missing or malformed data file, or a store open elsewhere; the message names file and line."""


class MissingDependencyError(GLiClassRerankError, ImportError):
    """Missing optional package.

    Args:
        package: Name of the package; kept as `.package`.
        extra: Extra of gliclass-rerank that installs it; kept as `.extra`.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package `{package}` is needed here and is not installed; run: pip install 'gliclass-rerank[{extra}]'"
        )
        self.package = package
        self.extra = extra


class BackendError(GLiClassRerankError, RuntimeError):
    """Failed forward pass, unusable numbers, or failed example store.

    Args:
        reason: Cause in one sentence; kept as `.reason`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OutOfMemoryError(BackendError):
    """Batch that does not fit the device's memory."""


def listed(names: Iterable[str]) -> str:
    """Join names for a message: sorted, back-quoted and shortened; the rest is counted after five."""
    ordered = sorted(names)
    text = ", ".join(f"`{_cut(name)}`" for name in ordered[:_MAX_LISTED])
    rest = len(ordered) - _MAX_LISTED
    return f"{text} and {rest} more" if rest > 0 else text


def shown(value: object) -> str:
    """Format a value for a message: its one-line repr, cut in the middle to 80 characters; never fails."""
    try:
        if isinstance(value, str):
            # Both ends suffice: the middle of a longer one is cut out below.
            text = repr(value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + value[-MAX_SHOWN:])
        elif isinstance(value, int) and abs(value) >= _MOST_DIGITS:
            text = f"a number of {value.bit_length()} bits"  # Python refuses to print very long ones
        else:
            text = _SHORT.repr(value)
        return _cut(text)
    except Exception:  # noqa: BLE001 - a repr is other people's code
        return _cut(f"<{type(value).__name__}>")


def cause(error: BaseException) -> str:
    """First line of a third-party message, at most 80 characters: it may quote its input."""
    try:
        return _cut(str(error).partition("\n")[0] or type(error).__name__)
    except Exception:  # noqa: BLE001 - as above
        return type(error).__name__


def _cut(text: str) -> str:
    # On one line, in characters that a terminal or log can write.
    text = " ".join(text.splitlines()).encode("utf-8", "backslashreplace").decode()
    head = (MAX_SHOWN - 1) // 2
    return text if len(text) <= MAX_SHOWN else f"{text[:head]}…{text[head + 1 - MAX_SHOWN :]}"


def _short() -> reprlib.Repr:
    """Repr that reads no more of a container than it shows."""
    short = reprlib.Repr()
    short.maxlevel = 3
    short.maxstring = short.maxother = short.maxlong = 2 * MAX_SHOWN
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = short.maxfrozenset = short.maxdeque = MAX_SHOWN // 3
    return short


_SHORT: Final = _short()
