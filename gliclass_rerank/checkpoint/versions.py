"""Folder of a model's versions side by side, one of them current; it loads wherever a checkpoint does.

```
config.json     {"model_type": "GLiClassVersions", "current": "0002"}
0001/, 0002/    complete checkpoints or cascades
```
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from gliclass_rerank.errors import CheckpointError, shown
from gliclass_rerank.files.atomic_write import own_folder, read_json

MODEL_TYPE: Final = "GLiClassVersions"
_CONFIG: Final = "config.json"
_NAME: Final = re.compile(r"\d{4,8}")


def is_version_name(name: object) -> bool:
    """Test for the name of a version, such as `0002`."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def current_name(folder: Path) -> str | None:
    """Name of the current version; None unless the folder holds versions, a `CheckpointError` if it names none."""
    values = read_json(folder, _CONFIG)
    if not isinstance(values, dict) or values.get("model_type") != MODEL_TYPE:
        return None
    name = values.get("current")
    if not is_version_name(name):
        raise CheckpointError(f"`{folder / _CONFIG}` must name a version such as '0001', got {shown(name)}")
    return str(name)


def version_of(model: str | Path) -> str | None:
    """Name of the current version of a model; None unless it is a folder of versions."""
    folder = Path(model)
    return current_name(folder) if folder.is_dir() else None


def current_folder(folder: Path) -> Path:
    """Folder of the current version; the folder itself unless it holds versions."""
    name = current_name(folder)
    if name is None:
        return folder
    if (found := own_folder(folder, name)) is None:
        raise CheckpointError(f"`{folder}` holds no version `{name}`, which its config names as the current one")
    return found
