"""Files and folders that appear whole or not at all, and files of other people, looked at before they are read.

A model's folder may come from anywhere. What is read of it are regular files that lie in it: a pipe would be waited
for, a device never ends, a link might lead to whatever the reader may read
(docs/decisions/0024-what-a-checkpoint-may-do.md).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Any, Final

from gliclass_rerank.errors import CheckpointError, cause, shown

try:
    import fcntl
except ImportError:  # Windows, where leftovers stay
    fcntl = None  # type: ignore[assignment]

_MOST_JSON_BYTES: Final = 1 << 25
_UNFINISHED: Final = ".unfinished"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a file under another name beside it; it takes its place when the block is left without an error.

    Args:
        path: The file; replaced if it exists. Its folder must exist.

    Yields:
        Where to write. Whatever is there is gone when the block is left with an error.
    """
    staging = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.new")
    try:
        yield staging
        _sync(staging)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Write a folder under another name beside it; it gets its name when the block is left without an error.

    What killed processes have left of the same folder is removed.

    Args:
        path: The folder; must not exist, while the one it lies in must.

    Yields:
        Where to write. It is gone when the block is left with an error; a killed process leaves it behind, under a name
        that starts with a dot.
    """
    remove_leftovers(path)
    staging, lock = _new_staging(path)
    try:
        yield staging
        for file in staging.rglob("*"):
            if file.is_file():
                _sync(file)
        staging.chmod(0o755)
        os.replace(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes have left of folders that `atomic_folder` was to write under a name.

    Args:
        path: The folder that was to be written.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}-[a-z0-9_]{{8}}{re.escape(_UNFINISHED)}")
    for found in [each for each in path.parent.glob(".*") if pattern.fullmatch(each.name)]:
        with suppress(OSError):  # another process was quicker, or still writes it
            lock = os.open(found, os.O_RDONLY)
            try:
                if _lock(lock):
                    shutil.rmtree(found, ignore_errors=True)
            finally:
                os.close(lock)


def _new_staging(path: Path) -> tuple[Path, int]:
    """A folder to write into and the lock that says that a process does: it ends with the process."""
    while True:
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-", suffix=_UNFINISHED))
        if fcntl is None:
            return staging, os.open(os.devnull, os.O_RDONLY)
        lock = os.open(staging, os.O_RDONLY)
        if _lock(lock) is not False and staging.exists():
            return staging, lock
        os.close(lock)  # another process took it for a leftover before it was locked


def _lock(handle: int) -> bool | None:
    """Whether a folder could be locked; None where there are no locks, and nobody can say who still writes."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # not on this file system
        return None
    return True


def own_file(folder: Path, name: str) -> Path | None:
    """A regular file in a model's folder; nothing is opened.

    Args:
        folder: The model's folder.
        name: Where the file lies in it.

    Returns:
        Its path; None if there is nothing.

    Raises:
        CheckpointError: It is a pipe, a device or a folder, or it leads out of the folder. A link into the store of a
            hub download (`models--*/blobs`), which is what such downloads consist of, is none of these.
    """
    return _own(folder, name, stat.S_ISREG, "a file")


def own_folder(folder: Path, name: str) -> Path | None:
    """A folder in a model's folder.

    Args:
        folder: The model's folder.
        name: Where the other one lies in it.

    Returns:
        Its path; None if there is nothing.

    Raises:
        CheckpointError: It is something else, or it leads out of the folder.
    """
    return _own(folder, name, stat.S_ISDIR, "a folder")


def read_json(folder: Path, name: str) -> Any:  # Any: JSON
    """Read a JSON file of a model's folder.

    Args:
        folder: The model's folder.
        name: Where the file lies in it.

    Returns:
        What it holds; None if there is no such file.

    Raises:
        CheckpointError: See `own_file`; or it cannot be read, is larger than 32 MB or no JSON.
    """
    if (path := own_file(folder, name)) is None:
        return None
    try:
        with path.open("rb") as handle:
            raw = handle.read(_MOST_JSON_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"`{path}` cannot be read: {cause(error)}") from error
    if len(raw) > _MOST_JSON_BYTES:
        raise CheckpointError(f"`{path}` is larger than {_MOST_JSON_BYTES >> 20} MB, which no settings are")
    try:
        return json.loads(raw.decode("utf-8"))
    except ValueError as error:  # numbers of thousands of digits too
        raise CheckpointError(f"`{path}` is not JSON: {cause(error)}") from error
    except RecursionError:
        raise CheckpointError(f"`{path}` is not JSON that can be read: it is nested too deeply") from None


def _own(folder: Path, name: str, is_right: Callable[[int], bool], wanted: str) -> Path | None:
    path = folder / name
    try:
        mode = path.stat().st_mode
        root, target = folder.resolve(), path.resolve()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RuntimeError) as error:  # no permission; a NUL in the name; links in a circle
        raise CheckpointError(f"{shown(name)} in `{folder}` cannot be read: {cause(error)}") from error
    if not is_right(mode):
        raise CheckpointError(f"{shown(name)} in `{folder}` must be {wanted}")
    is_blob = target.parent.name == "blobs" and target.parent.parent.name.startswith("models--")
    if not (target.is_relative_to(root) or is_blob):
        raise CheckpointError(f"{shown(name)} in `{folder}` is a link that leads out of it; put a copy there instead")
    return path


def _sync(file: Path) -> None:
    with file.open("r+b") as handle:
        os.fsync(handle.fileno())  # else a power failure could leave the name without its contents
