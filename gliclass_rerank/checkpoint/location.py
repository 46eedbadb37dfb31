"""Location of checkpoints and their configs: local folders first, the hub only for a hub name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.checkpoint.versions import current_folder
from gliclass_rerank.errors import CheckpointError, cause, listed, shown
from gliclass_rerank.files.atomic_write import own_file, read_json

DEFAULT_MODEL: Final = "minilm-l6-v1"
DEFAULT_RANKER: Final = "minilm-cascade-v1"

CONFIG: Final = "config.json"
WEIGHTS_INDEX: Final = "model.safetensors.index.json"
LABEL_TOKENIZER: Final = "label_tokenizer"
TOKENIZER_FILES: Final = ("*token*.json", "*.model", "vocab*", "merges.txt", "special_tokens_map.json")

_BUNDLED: Final = Path(__file__).parents[1] / "bundled"
_FOLDER_NAME: Final = re.compile(r"\w[\w.-]{0,59}")  # at most 255 bytes, the limit of file systems, in any script
_HUB_NAME: Final = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")
# The parts of a cascade have their configs one folder below.
_WANTED: Final = (CONFIG, f"*/{CONFIG}", WEIGHTS_INDEX, "*.safetensors", *TOKENIZER_FILES, f"{LABEL_TOKENIZER}/*")


def bundled_folder(name: str = DEFAULT_MODEL) -> Path:
    """Folder of a bundled model."""
    return _BUNDLED / name


def is_bundled(name: str | Path) -> bool:
    """Test for a bundled model's name."""
    return isinstance(name, str) and is_folder_name(name) and bundled_folder(name).is_dir()


def bundled_models() -> list[str]:
    """Names of the bundled models."""
    return sorted(folder.name for folder in _BUNDLED.iterdir() if (folder / CONFIG).is_file())


def is_folder_name(name: str) -> bool:
    """Test for a plain folder name, without any path."""
    return _FOLDER_NAME.fullmatch(name) is not None


def local_folder(name: str | Path) -> Path | None:
    """Local folder of this name (of versions, the current one), else the bundled model's; None if there is neither."""
    try:
        folder = Path(name).expanduser()
        if name != "" and folder.is_dir():  # an empty path is the current folder
            return current_folder(folder)
    except (OSError, ValueError, RuntimeError):  # name too long, no permission, NUL, unknown home
        return None
    return bundled_folder(str(name)) if is_bundled(name) else None


def locate(name: str | Path, *, revision: str | None = None) -> Path:
    """Find the folder of a checkpoint.

    Args:
        name: Local folder, else bundled model, else hub name; the network is used for hub names only.
        revision: Branch, tag or commit on the hub.

    Returns:
        The folder.

    Raises:
        CheckpointError: Neither disk nor hub has it.
    """
    if not isinstance(name, (str, Path)):
        raise CheckpointError(f"a model must be a folder or a name, got {shown(name)}")
    if (folder := local_folder(name)) is not None:
        return folder
    if isinstance(name, Path):
        raise CheckpointError(f"there is no folder {listed([str(name)])}, and it is not a hub name (`owner/model`)")
    if "/" not in name:  # a hub name without an owner is rare, a misspelt bundled one is not
        try:
            return fetched(name, revision=revision)
        except CheckpointError as error:
            near = get_close_matches(name, bundled_models(), n=1, cutoff=0.3)
            hint = f"did you mean `{near[0]}`? " if near else ""
            raise CheckpointError(f"{error}; {hint}Bundled are {listed(bundled_models())}") from error
    return fetched(name, revision=revision)


def fetched(name: str, *, revision: str | None = None, wanted: Sequence[str] = _WANTED) -> Path:
    """Download files from the Hugging Face hub, ignoring local folders.

    Args:
        name: Hub name, such as `owner/model`.
        revision: Branch, tag or commit.
        wanted: Patterns of the files.

    Returns:
        Folder of the download.

    Raises:
        CheckpointError: The name is invalid or the download failed.
    """
    if not _HUB_NAME.fullmatch(name):
        raise CheckpointError(f"there is no folder {listed([name])}, and it is not a hub name (`owner/model`)")
    if not (revision is None or isinstance(revision, str)):
        raise CheckpointError(f"a revision must be a branch, a tag or a commit, got {shown(revision)}")
    # Lazy, because it imports an HTTP client, a fifth of `import torch`.
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(wanted)))
    except Exception as error:  # the hub's errors, the HTTP client's and the disk's
        raise CheckpointError(
            f"`{name}` is no local folder and could not be had from the hub "
            f"(revision {shown(revision or 'main')[1:-1]}): {cause(error)}"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:  # Any: JSON
    """Read a folder's config, with `model_type` if it is a checkpoint; a `CheckpointError` if it is missing."""
    if own_file(folder, CONFIG) is None:
        raise CheckpointError(f"`{folder}` holds no {CONFIG}, so it is not a checkpoint")
    values = read_json(folder, CONFIG)
    if not isinstance(values, dict):
        raise CheckpointError(f"`{folder / CONFIG}` must hold a JSON object, got {shown(values)}")
    return values
