"""Where exported graphs are kept: a folder beside the hub's cache, one entry for each network, version and setting.

An entry appears complete or not at all, so that processes may build the same one at once, and is never changed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from huggingface_hub.constants import HF_HUB_CACHE
from torch import nn

from gliclass_rerank._version import __version__
from gliclass_rerank.digests import weights_digest
from gliclass_rerank.errors import BackendError

# Changes with what the graphs compute, so that an entry of an earlier version is not taken.
_FORMAT: Final = 3


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
        return entry
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder, prefix=f".{key}-"))
    except OSError as error:
        raise BackendError(f"the exported model could not be kept in `{folder}`: {error}") from error
    try:
        build(staging)
        staging.chmod(0o755)
        os.replace(staging, entry)
    except OSError as error:
        if not entry.is_dir():  # else another process was quicker, and its entry is the same
            raise BackendError(f"the exported model could not be kept in `{folder}`: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return entry
