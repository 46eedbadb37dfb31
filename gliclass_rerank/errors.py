"""Every exception this library raises on purpose.

```
GLiClassRerankError
├── ConfigError (ValueError)              unknown or inconsistent setting
├── InputError (ValueError)               bad call arguments
│   └── WindowOverflowError               query and markers leave no room for a passage
├── CheckpointError                       missing, unexpected or mis-shaped weights; names listed
├── DataError (ValueError)                a file that cannot be used: evaluation data (line named), store, cache
├── MissingDependencyError (ImportError)  .package, .extra
└── BackendError (RuntimeError)           the forward pass, an encoder or an example store failed; .reason
    └── OutOfMemoryError                  the device has no memory left even for the smallest batch
```

Errors also derive from the builtin a caller would expect, so `except ValueError` keeps working. A message says what
was wrong, the constraint and the offending value, in one sentence; a remedy may follow in a second one.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Final

MAX_SHOWN: Final = 80
_MAX_LISTED = 5
_MOST_DIGITS: Final = 10**MAX_SHOWN


class GLiClassRerankError(Exception):
    """Base of all exceptions raised by gliclass-rerank."""


class ConfigError(GLiClassRerankError, ValueError):
    """A setting is unknown, out of range or contradicts another one."""


class InputError(GLiClassRerankError, ValueError):
    """A call argument cannot be used; the message names it and shows its value."""


class WindowOverflowError(InputError):
    """Query, examples and markers fill the window, so that no candidate token fits."""


class CheckpointError(GLiClassRerankError):
    """A checkpoint is incomplete, unsafe to read or does not fit its own config."""


class DataError(GLiClassRerankError, ValueError):
    """A data file is missing or malformed, or a store is open elsewhere; the message names the file and the line."""


class MissingDependencyError(GLiClassRerankError, ImportError):
    """An optional package is needed for this call.

    Args:
        package: Name of the missing package; kept as `.package`.
        extra: Extra of gliclass-rerank that installs it; kept as `.extra`.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package `{package}` is needed here and is not installed; run: pip install 'gliclass-rerank[{extra}]'"
        )
        self.package = package
        self.extra = extra


class BackendError(GLiClassRerankError, RuntimeError):
    """The forward pass failed or gave unusable numbers, or an example store failed while it was used.

    Args:
        reason: What went wrong, in one sentence; kept as `.reason`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OutOfMemoryError(BackendError):
    """The device has no memory left for this batch."""


def listed(names: Iterable[str]) -> str:
    """Join names for a message: sorted, back-quoted, long ones cut, and after five the count of the rest."""
    ordered = sorted(names)
    text = ", ".join(f"`{_cut(name)}`" for name in ordered[:_MAX_LISTED])
    rest = len(ordered) - _MAX_LISTED
    return f"{text} and {rest} more" if rest > 0 else text


def shown(value: object) -> str:
    """A value for a message: its repr on one line, at most 80 characters, cut in the middle; no value makes it fail."""
    try:
        if isinstance(value, str):
            # Both ends are enough: of a longer one the middle is cut out below.
            text = repr(value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + value[-MAX_SHOWN:])
        elif isinstance(value, int) and abs(value) >= _MOST_DIGITS:
            text = f"a number of {value.bit_length()} bits"  # Python refuses to write out very long ones
        else:
            text = _SHORT.repr(value)
        return _cut(text)
    except Exception:  # noqa: BLE001 - a repr is other people's code
        return _cut(f"<{type(value).__name__}>")


def cause(error: BaseException) -> str:
    """The first line of another library's message, at most 80 characters: it may quote what it was given."""
    try:
        return _cut(str(error).partition("\n")[0] or type(error).__name__)
    except Exception:  # noqa: BLE001 - as above
        return type(error).__name__


def _cut(text: str) -> str:
    # On one line, and of what a terminal or a log can write.
    text = " ".join(text.splitlines()).encode("utf-8", "backslashreplace").decode()
    head = (MAX_SHOWN - 1) // 2
    return text if len(text) <= MAX_SHOWN else f"{text[:head]}…{text[head + 1 - MAX_SHOWN :]}"


def _short() -> reprlib.Repr:
    """Reprs that look at no more of a container than is shown of it."""
    short = reprlib.Repr()
    short.maxlevel = 3
    short.maxstring = short.maxother = short.maxlong = 2 * MAX_SHOWN
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = short.maxfrozenset = short.maxdeque = MAX_SHOWN // 3
    return short


_SHORT: Final = _short()
