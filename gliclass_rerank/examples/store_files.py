"""Files beside a store."""

from __future__ import annotations

import glob
from contextlib import suppress
from pathlib import Path

from gliclass_rerank.files.locks import remove_unlocked


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
    remove_unlocked(path.parent.glob(f"{glob.escape(index_path(path).name)}.*partial"))
