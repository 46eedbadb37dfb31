"""From a name to a checkpoint's folder and its settings: local folders first, the hub only for a hub name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.errors import CheckpointError, cause, listed, shown
from gliclass_rerank.files.atomic_write import own_file, read_json

DEFAULT_MODEL: Final = "minilm-l6-v1"
DEFAULT_RANKER: Final = "minilm-cascade-v1"

CONFIG: Final = "config.json"
WEIGHTS_INDEX: Final = "model.safetensors.index.json"
LABEL_TOKENIZER: Final = "label_tokenizer"
TOKENIZER_FILES: Final = ("*token*.json", "*.model", "vocab*", "merges.txt", "special_tokens_map.json")

_BUNDLED: Final = Path(__file__).parents[1] / "bundled"
_FOLDER_NAME: Final = re.compile(r"\w[\w.-]{0,59}")  # of 255 bytes, which file systems take, in any script
_HUB_NAME: Final = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")
# The parts of a cascade have their configs one folder below.
_WANTED: Final = (CONFIG, f"*/{CONFIG}", WEIGHTS_INDEX, "*.safetensors", *TOKENIZER_FILES, f"{LABEL_TOKENIZER}/*")


def bundled_folder(name: str = DEFAULT_MODEL) -> Path:
    """Where a bundled model lies."""
    return _BUNDLED / name


def is_bundled(name: str | Path) -> bool:
    """Whether a bundled model has this name."""
    return isinstance(name, str) and is_folder_name(name) and bundled_folder(name).is_dir()


def is_folder_name(name: str) -> bool:
    """Whether a name stands for a folder within another one, and leads to no other place."""
    return _FOLDER_NAME.fullmatch(name) is not None


def local_folder(name: str | Path) -> Path | None:
    """The folder that needs no network: the one of this name, else that of the bundled model; None if there is none."""
    try:
        folder = Path(name).expanduser()
        if name != "" and folder.is_dir():  # an empty path is the current folder
            return folder
    except (OSError, ValueError, RuntimeError):  # too long, no permission; a NUL; a home that nobody has
        return None
    return bundled_folder(str(name)) if is_bundled(name) else None


def locate(name: str | Path, *, revision: str | None = None) -> Path:
    """Find the folder of a checkpoint.

    Args:
        name: A local folder, else the name of a bundled model, else a name on the Hugging Face hub. An existing folder
            always wins; for it and for a bundled model nothing is asked of the network.
        revision: Branch, tag or commit on the hub.

    Returns:
        The folder.

    Raises:
        CheckpointError: There is no such folder, and the hub does not give it.
    """
    if not isinstance(name, (str, Path)):
        raise CheckpointError(f"a model must be a folder or a name, got {shown(name)}")
    if (folder := local_folder(name)) is not None:
        return folder
    if isinstance(name, Path):
        raise CheckpointError(f"there is no folder {listed([str(name)])}, and it is not a hub name (`owner/model`)")
    return fetched(name, revision=revision)


def fetched(name: str, *, revision: str | None = None, wanted: Sequence[str] = _WANTED) -> Path:
    """Fetch files from the Hugging Face hub, whatever local folders there are.

    Args:
        name: Such as `owner/model`.
        revision: Branch, tag or commit.
        wanted: Patterns of the files.

    Returns:
        The folder of the download.

    Raises:
        CheckpointError: It is no name of the hub's, or the hub does not give it.
    """
    if not _HUB_NAME.fullmatch(name):
        raise CheckpointError(f"there is no folder {listed([name])}, and it is not a hub name (`owner/model`)")
    if not (revision is None or isinstance(revision, str)):
        raise CheckpointError(f"a revision must be a branch, a tag or a commit, got {shown(revision)}")
    # Here, because it brings an HTTP client along, a fifth of what `import torch` takes.
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(wanted)))
    except Exception as error:  # the hub's errors, the HTTP client's and the disk's
        raise CheckpointError(
            f"`{name}` is no local folder and could not be had from the hub "
            f"(revision {shown(revision or 'main')[1:-1]}): {cause(error)}"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:  # Any: JSON
    """The settings in a folder.

    Args:
        folder: What `locate` found.

    Returns:
        The settings, with `model_type` among them if it is a checkpoint.

    Raises:
        CheckpointError: There are none.
    """
    if own_file(folder, CONFIG) is None:
        raise CheckpointError(f"`{folder}` holds no {CONFIG}, so it is not a checkpoint")
    values = read_json(folder, CONFIG)
    if not isinstance(values, dict):
        raise CheckpointError(f"`{folder / CONFIG}` must hold a JSON object, got {shown(values)}")
    return values
