"""Where exported graphs are kept: a folder beside the hub's cache, one entry for each network, version and setting.

An entry appears complete or not at all, so that processes may build the same one at once, and is never changed; its
date is that of its last use.
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
from gliclass_rerank.digests import weights_digest
from gliclass_rerank.errors import BackendError, ConfigError
from gliclass_rerank.whole_file import whole_folder

# Changes with what the graphs compute, so that an entry of an earlier version is not taken.
_FORMAT: Final = 7

# An entry, or one that is being built or removed; whatever else lies in the folder is not ours to remove.
_OURS: Final = re.compile(r"[0-9a-f]{32}|\.[0-9a-f]{32}-.*")
_DAY_S: Final = 24 * 3600


def default_cache_folder() -> Path:
    """Beside the hub's cache, which `HF_HOME` and `HF_HUB_CACHE` move."""
    return Path(HF_HUB_CACHE).expanduser().parent / "gliclass-rerank"


def graph_key(weights: nn.Module, settings: Mapping[str, Any]) -> str:  # Any: JSON
    """Name of an entry.

    Args:
        weights: What the graphs are made from.
        settings: What else they depend on, as JSON values.

    Returns:
        32 hexadecimal digits; the same wherever the checkpoint lies and whatever it is called.
    """
    described = {"format": _FORMAT, "version": __version__, **settings}
    return weights_digest(weights.state_dict(), described)[:32]


def cached_graphs(folder: Path, key: str, build: Callable[[Path], None]) -> Path:
    """Find an entry, or build it.

    Args:
        folder: The cache; made if it does not exist.
        key: The entry's name.
        build: Writes the entry's files into a folder.

    Returns:
        The entry's folder.

    Raises:
        BackendError: The cache cannot be written to.
    """
    entry = folder / key
    if entry.is_dir():
        with suppress(OSError):  # a cache may be read-only, and then nothing prunes it either
            os.utime(entry)
        return entry
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_folder(entry) as staging:
            build(staging)
    except OSError as error:
        if not entry.is_dir():  # else another process was quicker, and its entry is the same
            raise BackendError(f"the exported model could not be kept in `{folder}`: {error}") from error
    return entry


def prune_graphs(folder: Path, *, unused_days: int) -> int:
    """Remove entries that were not used for some days, and what a killed process left half built.

    Entries of earlier versions are among them, because nothing uses those any more. A process that has an entry open
    keeps it; one that finds it gone builds it again.

    Args:
        folder: The cache; need not exist.
        unused_days: At least 1, so that nothing is removed that is being built or loaded.

    Returns:
        How many entries were removed.

    Raises:
        ConfigError: Less than a day.
    """
    if unused_days < 1:
        raise ConfigError(f"`unused_days` must be at least 1, got {unused_days}")
    oldest, removed = time.time() - unused_days * _DAY_S, 0
    for entry in [path for path in folder.glob("*") if _OURS.fullmatch(path.name)]:
        with suppress(OSError):  # another process was quicker, or (on Windows) has it open
            if entry.stat().st_mtime < oldest:
                # Moved first: an entry is never seen with some of its files.
                going = entry if entry.name.startswith(".") else entry.rename(folder / f".{entry.name}-removed")
                shutil.rmtree(going)
                removed += 1
    return removed
