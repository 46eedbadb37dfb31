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

from collections.abc import Iterable

_MAX_LISTED = 5


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
    """Join names for a message: sorted, back-quoted, cut after five with the count of the rest."""
    ordered = sorted(names)
    text = ", ".join(f"`{name}`" for name in ordered[:_MAX_LISTED])
    rest = len(ordered) - _MAX_LISTED
    return f"{text} and {rest} more" if rest > 0 else text
