"""Versions of a model: adding, listing, going back; `checkpoint/versions.py` has the format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.checkpoint.location import CONFIG
from gliclass_rerank.checkpoint.versions import MODEL_TYPE, current_name, is_version_name
from gliclass_rerank.checks import checked_path
from gliclass_rerank.errors import CheckpointError, InputError, listed, shown
from gliclass_rerank.files.atomic_write import atomic_file, read_json

NOTES: Final = "learned.json"
"""File of a version with where it comes from and what the gate said."""


@dataclass(frozen=True)
class Version:
    """Version of a model.

    Attributes:
        name: Number with four digits.
        folder: Checkpoint or cascade.
        is_current: It is the one that loads.
        notes: Where it comes from, and what the gate measured; empty for the first.
    """

    name: str
    folder: Path
    is_current: bool
    notes: dict[str, Any]  # Any: JSON


def versions(model: str | Path) -> list[Version]:
    """List the versions of a model, oldest first.

    Args:
        model: Folder that `learn` wrote.

    Returns:
        Versions.

    Raises:
        CheckpointError: The folder holds no versions.
    """
    folder = checked_path("model", model)
    current = current_name(folder) if folder.is_dir() else None
    if current is None:
        raise CheckpointError(f"`{folder}` holds no versions; `learn` writes such a folder")
    return [
        Version(path.name, path, path.name == current, read_json(path, NOTES) or {}) for path in version_folders(folder)
    ]


def rollback(model: str | Path, to: str | None = None) -> Version:
    """Make an older version the current one, or any by name.

    Args:
        model: Folder that `learn` wrote.
        to: Name of a version; None for the one that the current one was learned from.

    Returns:
        The version that is now current.

    Raises:
        CheckpointError: The folder holds no versions.
        InputError: There is no such version, or none before the current one.
    """
    found = {version.name: version for version in versions(model)}
    current = next((version for version in found.values() if version.is_current), None)
    if to is None:
        older = [name for name in found if current is not None and name < current.name]
        parent = None if current is None else current.notes.get("parent")
        to = parent if parent in found else max(older, default=None)
        if to is None:
            raise InputError(f"there is no version before the current one, only {listed(found)}")
    if to not in found:
        raise InputError(f"`to` must be one of the versions {listed(found)}, got {shown(to)}")
    set_current(checked_path("model", model), to)
    return next(version for version in versions(model) if version.is_current)


def version_folders(folder: Path) -> list[Path]:
    """Folders of all versions, oldest first."""
    return sorted((path for path in folder.iterdir() if path.is_dir() and is_version_name(path.name)), key=_number)


def set_current(folder: Path, name: str) -> None:
    """Switch the current version, atomically."""
    values = {"model_type": MODEL_TYPE, "current": name}
    with atomic_file(folder / CONFIG) as staging:
        staging.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def add_version(folder: Path, write: Callable[[Path], object]) -> str:
    """Write a version under the next name, without making it current.

    Args:
        folder: Folder of the versions.
        write: Writes a folder that does not exist yet, atomically.

    Returns:
        Name of the version.
    """
    known = version_folders(folder)
    name = f"{1 + max(map(_number, known), default=0):04}"
    write(folder / name)
    return name


def prune(folder: Path, keep: int) -> None:
    """Remove the oldest versions beyond `keep`, never the current one nor the one it was learned from."""
    current = current_name(folder)
    notes = read_json(folder / current, NOTES) if current is not None else None
    needed = {current, (notes or {}).get("parent")}
    rest = [path for path in version_folders(folder) if path.name not in needed]
    for path in rest[: max(0, len(rest) + len(needed - {None}) - keep)]:
        shutil.rmtree(path)


def _number(path: Path) -> int:
    return int(path.name)
