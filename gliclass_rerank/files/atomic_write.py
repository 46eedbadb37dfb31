"""Atomic writes of files and folders, and safe reads from untrusted folders.

A model's folder may come from anywhere, so only regular files inside it are read: a pipe would block, a device never
ends, a link could lead to any file (docs/decisions/0024-what-a-checkpoint-may-do.md).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any, Final

from gliclass_rerank.errors import CheckpointError, cause, shown
from gliclass_rerank.files.locks import hold, remove_unlocked

_MOST_JSON_BYTES: Final = 1 << 25
_UNFINISHED: Final = ".unfinished"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name beside it, and rename it if the block succeeds.

    Args:
        path: Target, replaced if it exists. Its folder must exist.

    Yields:
        Temporary path; removed if the block fails.
    """
    staging = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.new")
    try:
        yield staging
        _sync(staging)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, mode: int = 0o755) -> Iterator[Path]:
    """Write a folder under a temporary name beside it, and rename it if the block succeeds.

    Leftovers of killed processes for the same folder are removed.

    Args:
        path: New folder, in an existing one.
        mode: Permissions of the folder.

    Yields:
        Temporary folder; removed if the block fails. A killed process leaves it, with a leading dot in its name.
    """
    remove_leftovers(path)
    staging, lock = _new_staging(path)
    try:
        yield staging
        for file in staging.rglob("*"):
            if file.is_file():
                _sync(file)
        staging.chmod(mode)
        os.replace(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def remove_leftovers(path: Path) -> None:
    """Remove temporary folders that killed processes left for `path`."""
    pattern = re.compile(rf"\.{re.escape(path.name)}-[a-z0-9_]{{8}}{re.escape(_UNFINISHED)}")
    remove_unlocked([each for each in path.parent.glob(".*") if pattern.fullmatch(each.name)])


def _new_staging(path: Path) -> tuple[Path, int]:
    while True:
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-", suffix=_UNFINISHED))
        if (lock := hold(staging)) is not None:
            return staging, lock


def own_file(folder: Path, name: str) -> Path | None:
    """Find a regular file in a model's folder, without opening it.

    Args:
        folder: Folder of the model.
        name: Relative path of the file.

    Returns:
        Path of the file; None if it is missing.

    Raises:
        CheckpointError: It is a pipe, device or folder, or leads out of the folder; links into a hub download's store
            (`models--*/blobs`) are allowed.
    """
    return _own(folder, name, stat.S_ISREG, "a file")


def own_folder(folder: Path, name: str) -> Path | None:
    """Find a subfolder of a model's folder.

    Args:
        folder: Folder of the model.
        name: Relative path of the subfolder.

    Returns:
        Its path; None if it is missing.

    Raises:
        CheckpointError: It is not a folder, or leads out of the model's folder.
    """
    return _own(folder, name, stat.S_ISDIR, "a folder")


def read_json(folder: Path, name: str) -> Any:  # Any: JSON
    """Read a JSON file of a model's folder.

    Args:
        folder: Folder of the model.
        name: Relative path of the file.

    Returns:
        Parsed content; None if the file is missing.

    Raises:
        CheckpointError: The file is not regular, unreadable, larger than 32 MB, or not JSON.
    """
    if (path := own_file(folder, name)) is None:
        return None
    try:
        with path.open("rb") as handle:
            raw = handle.read(_MOST_JSON_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"`{path}` cannot be read: {cause(error)}") from error
    if len(raw) > _MOST_JSON_BYTES:
        raise CheckpointError(f"`{path}` must be at most {_MOST_JSON_BYTES >> 20} MB")
    try:
        return json.loads(raw.decode("utf-8"))
    except ValueError as error:  # includes numbers of thousands of digits
        raise CheckpointError(f"`{path}` is not JSON: {cause(error)}") from error
    except RecursionError:
        raise CheckpointError(f"`{path}` is JSON nested too deeply") from None


def _own(folder: Path, name: str, is_right: Callable[[int], bool], wanted: str) -> Path | None:
    path = folder / name
    try:
        mode = path.stat().st_mode
        root, target = folder.resolve(), path.resolve()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RuntimeError) as error:  # no permission, NUL in the name, circular links
        raise CheckpointError(f"{shown(name)} in `{folder}` cannot be read: {cause(error)}") from error
    if not is_right(mode):
        raise CheckpointError(f"{shown(name)} in `{folder}` must be {wanted}")
    is_blob = target.parent.name == "blobs" and target.parent.parent.name.startswith("models--")
    if not (target.is_relative_to(root) or is_blob):
        raise CheckpointError(f"{shown(name)} in `{folder}` is a link that leads out of it; put a copy there instead")
    return path


def _sync(file: Path) -> None:
    with file.open("r+b") as handle:
        os.fsync(handle.fileno())  # else a power failure could keep the name without its contents
