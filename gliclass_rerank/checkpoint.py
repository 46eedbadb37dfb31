"""From a name or a folder to a loaded checkpoint, and back to a folder.

Safe by default: safetensors only (unpickling a `.bin` file runs its code), no remote code, local folders first, the hub
only for a hub name. Loading is strict: every tensor is accounted for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, dtype

from gliclass_rerank.errors import CheckpointError, ConfigError, listed
from gliclass_rerank.inputs.layout import PromptLayout
from gliclass_rerank.inputs.pieces import EXAMPLE, LABEL, SEP
from gliclass_rerank.inputs.tokenizer import TextTokenizer, check_markers, load_tokenizer
from gliclass_rerank.integer_weights import from_integers, to_integers
from gliclass_rerank.location import (
    CONFIG,
    DEFAULT_MODEL,
    LABEL_TOKENIZER,
    TOKENIZER_FILES,
    WEIGHTS_INDEX,
    locate,
    read_config,
)
from gliclass_rerank.model.build import build_model
from gliclass_rerank.model.config import MODEL_TYPE, ModelConfig
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.whole_file import whole_folder

_WEIGHTS: Final = "model.safetensors"
_PREFIX: Final = "model."
# Modules that no forward pass reads: upstream saves them, other files lack them.
_UNREAD: Final = re.compile(r"(^|\.)pooler\.")
# What older files hold beyond that: buffers that are computed now, positions of backbones that have none.
_SURPLUS: Final = re.compile(r"(^|\.)(pooler\.|position_ids$|token_type_ids$|embeddings\.position_embeddings\.)")
_SURPLUS_IN_BI_ENCODERS: Final = re.compile(r"^(lstm|layer_wise_attention)\.")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        name: What the caller asked for, or the bundled model's name.
        config: Its settings.
        model: The network, float32, on the CPU, in evaluation mode.
        layout: Writes its prompts; holds its tokenizer.
        label_tokenizer: The label encoder's tokenizer (bi-encoders only).
    """

    name: str
    config: ModelConfig
    model: ScoringHead
    layout: PromptLayout
    label_tokenizer: TextTokenizer | None = None


def load_checkpoint(name: str | Path | None = None, *, revision: str | None = None) -> Checkpoint:
    """Load a checkpoint.

    Args:
        name: A local folder, which always wins, else a bundled model's name, else a name on the Hugging Face hub; None
            for the bundled `minilm-l6-v1`.
        revision: Branch, tag or commit on the hub; pin a commit in production.

    Returns:
        The checkpoint, float32 on the CPU whatever the file's precision.

    Raises:
        CheckpointError: Files are missing, unsafe or do not fit each other; all offending names are listed.
        ConfigError: The config asks for something unknown, such as another architecture.
    """
    folder = locate(DEFAULT_MODEL if name is None else name, revision=revision)
    values = read_config(folder)
    if values.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"`{folder}` is not a GLiClass checkpoint: its `model_type` is {values.get('model_type')!r}"
        )
    weights = {key.removeprefix(_PREFIX): tensor for key, tensor in _read_weights(folder).items()}
    config = ModelConfig.from_dict(values).with_shapes({key: tuple(t.shape) for key, t in weights.items()})
    layout = PromptLayout(load_tokenizer(folder), prompt_first=config.prompt_first)
    if config.architecture_type != "bi-encoder":
        expected = {LABEL: config.class_token_index, SEP: config.text_token_index}
        if config.example_token_index < config.vocab_size:  # beyond the table, it is a default that nobody placed
            expected[EXAMPLE] = config.example_token_index
        check_markers(layout.tokenizer, expected, optional=(EXAMPLE,))
    model = build_model(config)
    _fill(model, weights, folder)
    return Checkpoint(
        name=DEFAULT_MODEL if name is None else str(name),
        config=config,
        model=model,
        layout=layout,
        label_tokenizer=_load_label_tokenizer(folder, config) if config.is_bi_encoder else None,
    )


def save_checkpoint(checkpoint: Checkpoint, folder: str | Path, *, weights_dtype: dtype | None = None) -> None:
    """Write a checkpoint so that `load_checkpoint` and upstream read the same model back.

    The folder appears complete or not at all.

    Args:
        checkpoint: What to write.
        folder: Must not exist yet.
        weights_dtype: Precision of the file; None keeps the model's. `torch.int8` makes matrices integers with
            scales (integer_weights.py), which upstream cannot read.

    Raises:
        CheckpointError: The folder exists.
    """
    target = Path(folder)
    if target.exists():
        raise CheckpointError(f"`{target}` exists already; checkpoints are never overwritten")
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(target) as staging:
        config = json.dumps(checkpoint.config.to_dict(), indent=2, sort_keys=True)
        (staging / CONFIG).write_text(config + "\n", encoding="utf-8")
        save_file(_to_save(checkpoint.model, weights_dtype), staging / _WEIGHTS, metadata={"format": "pt"})
        (staging / _WEIGHTS).chmod(0o644)  # safetensors writes it for the owner alone
        _write_tokenizer(checkpoint.layout.tokenizer, staging, checkpoint.config.shape.pad_id)
        if checkpoint.label_tokenizer is not None:
            label_folder = staging / LABEL_TOKENIZER
            label_folder.mkdir()
            _write_tokenizer(checkpoint.label_tokenizer, label_folder, checkpoint.config.label_shape.pad_id)


def _weight_files(folder: Path) -> list[str]:
    index = folder / WEIGHTS_INDEX
    if not index.is_file():
        return [_WEIGHTS]
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"`{index}` is no index of weights: it holds no `weight_map`") from None


def _read_weights(folder: Path) -> dict[str, Tensor]:
    files = _weight_files(folder)
    missing = [file for file in files if Path(file).name != file or not (folder / file).is_file()]
    if missing:
        reason = (
            "its pytorch_model.bin is not read, because unpickling a file runs code from it; "
            "convert it to safetensors first"
            if (folder / "pytorch_model.bin").is_file()
            else f"{listed(missing)} not found"
        )
        raise CheckpointError(f"`{folder}` holds no safetensors weights: {reason}")
    weights: dict[str, Tensor] = {}
    try:
        for file in files:
            weights.update(load_file(folder / file))
    except SafetensorError as error:
        raise CheckpointError(f"`{folder / file}` is not a complete safetensors file: {error}") from error
    return from_integers(weights)


def _fill(model: ScoringHead, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Copy weights into the model; precision is converted, nothing else."""
    own = model.state_dict(keep_vars=True)
    loaded = {own[key].data_ptr() for key in weights if key in own}
    missing = {key for key, value in own.items() if key not in weights and value.data_ptr() not in loaded}
    unexpected = {key for key in weights if key not in own and not _is_surplus(model, key)}
    shapes = {
        f"{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & weights.keys()
        if weights[key].shape != own[key].shape
    }
    absent = {key for key in missing if not _UNREAD.search(key)}
    problems = [
        f"{len(names)} {kind}: {listed(names)}"
        for kind, names in (("missing", absent), ("unexpected", unexpected), ("mis-shaped", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(f"the weights in `{folder}` do not fit its config: {'; '.join(problems)}")
    for key, value in own.items():
        if key in weights:
            value.data.copy_(weights[key])
        elif key in missing:
            value.data.zero_()  # never read, but saved again: no uninitialised memory


def _is_surplus(model: ScoringHead, key: str) -> bool:
    return bool(_SURPLUS.search(key) or (model.config.is_bi_encoder and _SURPLUS_IN_BI_ENCODERS.search(key)))


def _load_label_tokenizer(folder: Path, config: ModelConfig) -> TextTokenizer:
    if (folder / LABEL_TOKENIZER).is_dir():
        return load_tokenizer(folder / LABEL_TOKENIZER)
    if config.label_model_name is None:
        raise ConfigError(f"`{folder}` names no label tokenizer: neither {LABEL_TOKENIZER}/ nor `label_model_name`")
    return load_tokenizer(locate(config.label_model_name, wanted=(*TOKENIZER_FILES, CONFIG)))


def _to_save(model: ScoringHead, weights_dtype: dtype | None) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    float_dtype = None if weights_dtype == torch.int8 else weights_dtype
    seen: set[int] = set()
    for key, value in model.state_dict().items():
        if value.data_ptr() in seen:
            continue  # tied weights are written once; loading ties them again
        seen.add(value.data_ptr())
        name = key if key.startswith("calibrator.") else _PREFIX + key
        tensors[name] = value.detach().cpu().to(float_dtype or value.dtype).contiguous()
    return to_integers(tensors) if weights_dtype == torch.int8 else tensors


def _write_tokenizer(tokenizer: TextTokenizer, folder: Path, pad_id: int) -> None:
    (folder / "tokenizer.json").write_text(tokenizer.source, encoding="utf-8")
    values = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": tokenizer.token(pad_id)}
    (folder / "tokenizer_config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
