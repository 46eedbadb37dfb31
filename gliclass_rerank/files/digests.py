"""Digests of models, from the files in their folders or from their weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor

# Files that affect a model's output; others in its folder (cards, pictures, logs) may change.
_MODEL_FILES: Final = frozenset({".json", ".model", ".onnx", ".onnx_data", ".safetensors", ".txt"})
_WHOLE_FILE: Final = 1 << 22
_BLOCK: Final = 1 << 16
_NUM_SAMPLES: Final = 64


def folder_digest(
    folder: Path,
    *,
    settings: Mapping[str, Any] | None = None,  # Any: JSON
    is_sampled: bool = False,
) -> str:
    """Digest of a model's files, independent of the folder's path and name.

    Args:
        folder: Folder of the model.
        settings: Other settings that affect the output, as JSON values.
        is_sampled: Read evenly spaced blocks only of files above 4 MB; faster, but misses changes in between.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(dict(settings or {}), sort_keys=True).encode())
    paths = [path for path in folder.rglob("*") if path.suffix in _MODEL_FILES and path.is_file()]
    for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix()):
        size = path.stat().st_size
        digest.update(f"\n{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as handle:
            for start, length in _samples(size) if is_sampled and size > _WHOLE_FILE else _blocks(size):
                handle.seek(start)
                digest.update(handle.read(length))
    return digest.hexdigest()


def weights_digest(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:  # Any: JSON
    """Digest of weights (in order) and JSON settings: 64 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    for name, tensor in weights.items():
        digest.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _samples(size: int) -> Iterator[tuple[int, int]]:
    for number in range(_NUM_SAMPLES):
        yield (size - _BLOCK) * number // (_NUM_SAMPLES - 1), _BLOCK


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, _WHOLE_FILE):
        yield start, _WHOLE_FILE
