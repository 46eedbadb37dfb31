"""Models of upstream's pipelines: names, folders, our classifiers, and networks of the `gliclass` package in memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import torch

from gliclass_rerank.checkpoint.location import LABEL_TOKENIZER, TOKENIZER_FILES, fetched, local_folder, locate
from gliclass_rerank.checks import is_a
from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.errors import InputError, shown

# Upstream's default, and ours where the backbone allows it.
DEFAULT_MAX_LENGTH: Final = 1024


@runtime_checkable
class Savable(Protocol):
    """Network or tokenizer that writes itself to a folder, as transformers' do."""

    def save_pretrained(self, save_directory: str) -> object:
        """Write the files that `from_pretrained` reads."""
        ...


class GLiClassModel:
    """Name of a checkpoint in the place of upstream's model; a pipeline loads it.

    Args:
        name: Local folder, bundled model or hub name.
        revision: Branch, tag or commit of a hub model.
        dtype: Precision of the backbone; None for the default.

    Attributes:
        settings: Arguments for `ZeroShotClassifier`.
    """

    def __init__(
        self, name: str | Path, *, revision: str | None = None, dtype: str | torch.dtype | None = None
    ) -> None:
        self.settings: dict[str, Any] = {"model": name, "revision": revision, "dtype": dtype}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
    ) -> GLiClassModel:
        """Name a checkpoint.

        Args:
            pretrained_model_name_or_path: Local folder, bundled model or hub name.
            revision: Branch, tag or commit of a hub model.
            dtype: Precision of the backbone; None for the default.
            torch_dtype: Former name of `dtype`.

        Returns:
            The name, which nothing was loaded for yet.
        """
        return cls(pretrained_model_name_or_path, revision=revision, dtype=torch_dtype if dtype is None else dtype)

    def to(self, device: str | torch.device) -> GLiClassModel:  # noqa: ARG002 - upstream's signature
        """Return the model itself: the pipeline's `device` decides."""
        return self

    def eval(self) -> GLiClassModel:
        """Return the model itself, which is never trained."""
        return self


GLiClassBiEncoder = GLiClassModel


def load_classifier(
    model: object, tokenizer: object, *, device: str | torch.device, max_length: int
) -> ZeroShotClassifier:
    """Load what upstream's pipelines take as a model.

    Args:
        model: Name or folder, `GLiClassModel`, `ZeroShotClassifier`, or a network of the `gliclass` package.
        tokenizer: Tokenizer, or its name or folder; None for the checkpoint's.
        device: Torch device; one of cuda becomes the CPU where there is none.
        max_length: Longest sequence in tokens. A `ZeroShotClassifier` keeps its own.

    Returns:
        The classifier.

    Raises:
        InputError: `model` is none of these, or a network comes without its tokenizer.
        CheckpointError: The checkpoint cannot be loaded.
        ConfigError: `max_length` exceeds the backbone's limit.
    """
    if isinstance(model, ZeroShotClassifier):
        return model
    settings: dict[str, Any] = {"device": _device(device), "backend": "torch"}  # whose numbers are upstream's
    if max_length != DEFAULT_MAX_LENGTH:
        settings["max_window_tokens"] = max_length
    if isinstance(model, (str, Path)):
        model = GLiClassModel(model)
    with tempfile.TemporaryDirectory(prefix="gliclass-rerank-") as folder:
        if isinstance(model, GLiClassModel):
            settings |= model.settings
            if tokenizer is not None and str(tokenizer) != str(settings["model"]):
                _copy_weights(locate(settings["model"], revision=settings.pop("revision")), Path(folder))
                _write_tokenizer(tokenizer, Path(folder))
                settings["model"] = folder
            return ZeroShotClassifier(**settings)
        if not isinstance(model, Savable) or is_a(model, type):
            raise InputError(
                f"`model` must be a folder, a name, a `ZeroShotClassifier` or a network of gliclass, got {shown(model)}"
            )
        if tokenizer is None:
            raise InputError("a network of gliclass in memory needs its `tokenizer`, got None")
        model.save_pretrained(folder)
        _write_tokenizer(tokenizer, Path(folder))
        return ZeroShotClassifier(folder, **settings)


def _device(device: str | torch.device) -> str:
    name = str(device)
    return "cpu" if name.startswith("cuda") and not torch.cuda.is_available() else name


def _copy_weights(source: Path, folder: Path) -> None:
    """Link a checkpoint's files except its tokenizer's, or copy them where links are not possible."""
    tokenizer_files = {path.name for pattern in TOKENIZER_FILES for path in source.glob(pattern)}
    for path in source.iterdir():
        if path.name == LABEL_TOKENIZER:
            shutil.copytree(path, folder / path.name)
        elif path.is_file() and path.name not in tokenizer_files:
            try:
                os.link(path.resolve(), folder / path.name)
            except OSError:
                shutil.copyfile(path, folder / path.name)


def _write_tokenizer(tokenizer: object, folder: Path) -> None:
    if isinstance(tokenizer, (str, Path)):
        source = local_folder(tokenizer) or fetched(str(tokenizer), wanted=TOKENIZER_FILES)
        for path in (path for pattern in TOKENIZER_FILES for path in source.glob(pattern)):
            shutil.copyfile(path, folder / path.name)
    elif isinstance(tokenizer, Savable):
        tokenizer.save_pretrained(str(folder))
    else:
        raise InputError(f"`tokenizer` must be a tokenizer of transformers, a folder or a name, got {shown(tokenizer)}")
