"""Cache of exported graphs beside the hub's cache: one entry per network, version and setting.

Entries appear atomically, so several processes may build the same one, and never change; their date is the last use.
Damaged entries are rebuilt.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from huggingface_hub.constants import HF_HUB_CACHE
from torch import nn

from gliclass_rerank._version import __version__
from gliclass_rerank.errors import BackendError, ConfigError
from gliclass_rerank.files.atomic_write import atomic_folder, remove_leftovers
from gliclass_rerank.files.digests import weights_digest
from gliclass_rerank.runtime.cache_entry import Entry, open_entry, remove_entry, seal
from gliclass_rerank.runtime.private_folder import make_private

# Environment variable with the maximum size in GiB.
SIZE_VARIABLE: Final = "GLICLASS_RERANK_CACHE_GIB"
_DEFAULT_GIB: Final = 2.0
# Version of the graphs' computation; invalidates older entries.
_FORMAT: Final = 8

# An entry, or one being built or removed; other files in the folder are not ours to remove.
_OURS: Final = re.compile(r"[0-9a-f]{32}|\.[0-9a-f]{32}-.*")
_ENTRY: Final = re.compile(r"[0-9a-f]{32}")
_REMOVED: Final = re.compile(r"\.[0-9a-f]{32}-.*removed")
_DAY_S: Final = 24 * 3600


def default_cache_folder() -> Path:
    """Cache folder beside the hub's, which `HF_HOME` and `HF_HUB_CACHE` move."""
    return Path(HF_HUB_CACHE).expanduser().parent / "gliclass-rerank"


def graph_key(weights: nn.Module, settings: Mapping[str, Any]) -> str:  # Any: JSON
    """Entry key, 32 hexadecimal digits of weights and JSON settings; independent of the checkpoint's path and name."""
    described = {"format": _FORMAT, "version": __version__, **settings}
    return weights_digest(weights.state_dict(), described)[:32]


def cached_graphs(folder: Path, key: str, build: Callable[[Path], None]) -> Entry:
    """Find an entry, or build it.

    Args:
        folder: Cache folder; created for this user alone if missing.
        key: Key of the entry.
        build: Writer of the graphs `NAME.onnx` into a folder.

    Returns:
        Verified entry, locked while the object lives.

    Raises:
        BackendError: The cache is not writable or belongs to another user.
    """
    make_private(folder)
    path = folder / key
    if (found := _intact(path)) is not None:
        return found
    failure: OSError | None = None
    try:
        with atomic_folder(path, mode=0o700) as staging:
            build(staging)
            seal(staging, key)
    except OSError as error:
        failure = error  # another process may have stored the same entry first
    if (built := open_entry(path)) is None:
        raise BackendError(f"the exported model could not be kept in `{folder}`: {failure or 'it was changed'}")
    return built


def _intact(path: Path) -> Entry | None:
    """Open an intact entry; remove anything else in its place."""
    for in_use_too in (False, True):
        if (entry := open_entry(path)) is not None:
            with suppress(OSError):  # a read-only cache is not pruned either
                os.utime(path)
            return entry
        if not os.path.lexists(path) or remove_entry(path, in_use_too=in_use_too):
            break
    return None


def shrink_graphs(folder: Path) -> int:
    """Remove the least recently used entries until the cache fits `GLICLASS_RERANK_CACHE_GIB` (default 2 GiB).

    Args:
        folder: Cache folder; may be missing. Entries in use stay.

    Returns:
        Number of entries removed.

    Raises:
        ConfigError: The variable is not a number of GiB.
    """
    limit, removed = _largest_size(), 0
    _remove_leftovers(folder)
    sizes = {path: _size(path) for path in _by_last_use(folder)}
    excess = sum(sizes.values()) - limit
    for path, size in sizes.items():
        if excess <= 0:
            break
        if remove_entry(path):
            excess -= size
            removed += 1
    return removed


def prune_graphs(folder: Path, *, unused_days: int) -> int:
    """Remove entries unused for some days, among them those of earlier versions, and leftovers of killed processes.

    Args:
        folder: Cache folder; may be missing. Entries in use stay.
        unused_days: At least 1, which protects entries being built or loaded.

    Returns:
        Number of entries removed.

    Raises:
        ConfigError: `unused_days` is below 1.
    """
    if unused_days < 1:
        raise ConfigError(f"`unused_days` must be at least 1, got {unused_days}")
    oldest, removed = time.time() - unused_days * _DAY_S, 0
    for path in [path for path in folder.glob("*") if _OURS.fullmatch(path.name)]:
        with suppress(OSError):  # another process was faster
            if path.lstat().st_mtime < oldest and remove_entry(path):
                removed += 1
    return removed


def _remove_leftovers(folder: Path) -> None:
    """Remove half-built and half-removed entries of killed processes."""
    for path in list(folder.glob(".*")):
        if _REMOVED.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
        elif _OURS.fullmatch(path.name):
            remove_leftovers(folder / path.name[1:33])


def _largest_size() -> float:
    """Maximum cache size in bytes."""
    text = os.environ.get(SIZE_VARIABLE, "")
    try:
        gib = float(text) if text else _DEFAULT_GIB
    except ValueError:
        gib = -1.0
    if not 0 <= gib < float("inf"):
        raise ConfigError(f"the environment variable `{SIZE_VARIABLE}` must be a number of GiB, got {text[:80]!r}")
    return gib * 2**30


def _by_last_use(folder: Path) -> list[Path]:
    dated: list[tuple[float, Path]] = []
    for path in folder.glob("*"):
        with suppress(OSError):  # another process was faster
            if _ENTRY.fullmatch(path.name):
                dated.append((path.lstat().st_mtime, path))
    return [path for _, path in sorted(dated)]


def _size(entry: Path) -> int:
    size = 0
    with suppress(OSError):  # likewise
        for path in entry.iterdir():
            size += path.lstat().st_size
    return size
