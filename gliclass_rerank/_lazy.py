"""Names that are resolved on first use (PEP 562), so that importing a package loads nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def lazy_names(
    package: str, names: Sequence[str], homes: Mapping[str, str], *, otherwise: str
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make a package's `__getattr__` and `__dir__`.

    Args:
        package: Its name.
        names: What it exports.
        homes: In which of its modules a name is defined.
        otherwise: Where the names are that `homes` leaves out.

    Returns:
        Both functions.
    """

    def resolved(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes.get(name, otherwise)}"), name)

    return resolved, lambda: list(names)
