"""Files beside a store."""

from __future__ import annotations

import glob
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

# No index takes as long to write.
_OLD_S: Final = 3600.0


def index_path(path: Path) -> Path:
    """Index file of a store."""
    return path.with_name(f"{path.name}.index")


def renewed_path(path: Path) -> Path:
    """Temporary path of a store being re-encoded."""
    return path.with_name(f".{path.name}.reencoded")


def clear_leftovers(path: Path) -> None:
    """Remove temporary files of killed processes while the store is open: nobody re-encodes it then."""
    renewed = renewed_path(path)
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            renewed.with_name(renewed.name + suffix).unlink(missing_ok=True)
    for partial in path.parent.glob(f"{glob.escape(index_path(path).name)}.*partial"):
        with suppress(OSError):
            if partial.lstat().st_mtime < time.time() - _OLD_S:  # else another process may be writing it
                partial.unlink(missing_ok=True)
