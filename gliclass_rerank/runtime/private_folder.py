"""Private folders: a user who can replace a graph controls every score and may run code."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from gliclass_rerank.errors import BackendError

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_ROOT: Final = 0


def make_private(folder: Path) -> None:
    """Create a folder and its parents, or revoke other users' write access to it.

    Args:
        folder: Path of the folder.

    Raises:
        BackendError: The folder cannot be created, belongs to a user other than this one or root, or stays writable for
            others.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()  # the user's own link is followed, and its target checked
        if _is_own(found) and stat.S_IMODE(found.st_mode) & 0o077:
            with suppress(OSError):  # read-only file system
                folder.chmod(0o700)
            found = folder.stat()
    except OSError as error:
        raise BackendError(f"the exported model could not be kept in `{folder}`: {error}") from error
    if not is_trusted(found):
        raise BackendError(
            f"the cache `{folder}` belongs to another user or can be written to by others, who could change every "
            "score; remove it, or set `HF_HOME` to a folder of your own"
        )


def is_trusted(found: os.stat_result) -> bool:
    """Test that only this user and root can have written to a file or folder since its mode was set."""
    if not hasattr(os, "getuid"):  # Windows, where a user's folder is private already
        return True
    return found.st_uid in {os.getuid(), _ROOT} and not found.st_mode & _WRITABLE_BY_OTHERS


def _is_own(found: os.stat_result) -> bool:
    return hasattr(os, "getuid") and found.st_uid == os.getuid()
