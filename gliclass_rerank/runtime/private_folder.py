"""Folders that no other user can write to: who can replace a graph decides every score, and perhaps runs code."""

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
    """Make a folder, or take from others what they may do with it.

    Args:
        folder: What is above it is made too.

    Raises:
        BackendError: It belongs to another user than this one or root, others can write to it and that cannot be
            changed, or it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()  # a link of the user's own is followed, and what it leads to is looked at
        if _is_own(found) and stat.S_IMODE(found.st_mode) & 0o077:
            with suppress(OSError):  # a file system that is read only
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
    """Whether no user but this one and root can have written to a file or folder since its mode was set."""
    if not hasattr(os, "getuid"):  # Windows, where a user's folder is the user's
        return True
    return found.st_uid in {os.getuid(), _ROOT} and not found.st_mode & _WRITABLE_BY_OTHERS


def _is_own(found: os.stat_result) -> bool:
    return hasattr(os, "getuid") and found.st_uid == os.getuid()
