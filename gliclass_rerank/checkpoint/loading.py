"""Loading and saving of checkpoints.

Safe by default: safetensors only (unpickling a `.bin` file runs its code), no remote code, local folders first. Loading
is strict: every tensor is checked before memory is allocated for the network
(docs/decisions/0024-what-a-checkpoint-may-do.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, dtype

from gliclass_rerank.checkpoint.integer_weights import from_integers, to_integers
from gliclass_rerank.checkpoint.location import (
    CONFIG,
    DEFAULT_MODEL,
    LABEL_TOKENIZER,
    TOKENIZER_FILES,
    WEIGHTS_INDEX,
    fetched,
    local_folder,
    locate,
    read_config,
)
from gliclass_rerank.errors import CheckpointError, ConfigError, cause, listed, shown
from gliclass_rerank.files.atomic_write import atomic_folder, own_file, own_folder, read_json
from gliclass_rerank.model.build import build_model
from gliclass_rerank.model.config import MODEL_TYPE, ModelConfig
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.prompt.layout import PromptLayout
from gliclass_rerank.prompt.pieces import EXAMPLE, LABEL, SEP
from gliclass_rerank.prompt.tokenizer import TextTokenizer, check_markers
from gliclass_rerank.prompt.tokenizer_files import load_tokenizer

_WEIGHTS: Final = "model.safetensors"
_PREFIX: Final = "model."
# 32 GB in float32; the largest public checkpoint is a quarter of that.
_MOST_WEIGHTS: Final = 8_000_000_000
# Modules unused by forward passes: saved by upstream, missing from other files.
_UNREAD: Final = re.compile(r"(^|\.)pooler\.")
# Further leftovers of older files: buffers computed today, positions of backbones without any.
_SURPLUS: Final = re.compile(r"(^|\.)(pooler\.|position_ids$|token_type_ids$|embeddings\.position_embeddings\.)")
_SURPLUS_IN_BI_ENCODERS: Final = re.compile(r"^(lstm|layer_wise_attention)\.")


@dataclass(frozen=True)
class Checkpoint:
    """Loaded checkpoint.

    Attributes:
        name: Name given by the caller, or the bundled model's.
        config: Config of the model.
        model: Network in float32, on the CPU, in evaluation mode.
        layout: Prompt layout, with the tokenizer.
        label_tokenizer: Tokenizer of the label encoder (bi-encoders only).
    """

    name: str
    config: ModelConfig
    model: ScoringHead
    layout: PromptLayout
    label_tokenizer: TextTokenizer | None = None


def load_checkpoint(
    name: str | Path | None = None, *, revision: str | None = None, is_fetched: bool = False
) -> Checkpoint:
    """Load a checkpoint.

    Args:
        name: Local folder, else bundled model, else hub name; None for the bundled `minilm-l6-v1`.
        revision: Branch, tag or commit on the hub; pin a commit in production.
        is_fetched: The folder was just downloaded from the hub. A bi-encoder's label tokenizer may then be downloaded
            too, from the repository that the checkpoint names, at `main`.

    Returns:
        The checkpoint, in float32 on the CPU.

    Raises:
        CheckpointError: Files are missing, unsafe or inconsistent; all offending names are listed.
        ConfigError: The config contains an unknown choice, such as another architecture.
    """
    wanted = DEFAULT_MODEL if name is None else name
    folder = locate(wanted, revision=revision)
    is_fetched = is_fetched or local_folder(wanted) is None
    values = read_config(folder)
    if values.get("model_type") != MODEL_TYPE:
        kind = shown(values.get("model_type"))
        hint = f"; a cascade ranks only, take a single model such as `{DEFAULT_MODEL}`" if "Cascade" in kind else ""
        raise CheckpointError(f"`{folder}` is not a GLiClass checkpoint: its `model_type` is {kind}{hint}")
    weights = {key.removeprefix(_PREFIX): tensor for key, tensor in from_integers(read_weights(folder)).items()}
    config = ModelConfig.from_dict(values).with_shapes({key: tuple(t.shape) for key, t in weights.items()})
    layout = PromptLayout(load_tokenizer(folder), prompt_first=config.prompt_first)
    if config.architecture_type != "bi-encoder":
        _check_markers(config, layout.tokenizer)
    _check_vocabulary(layout.tokenizer, config.shape.vocab_size if config.is_bi_encoder else config.vocab_size)
    with torch.device("meta"):
        _check_fit(build_model(config), weights, folder)
    model = build_model(config)
    _fill(model, weights)
    return Checkpoint(
        name=str(wanted),
        config=config,
        model=model,
        layout=layout,
        label_tokenizer=_load_label_tokenizer(folder, config, is_fetched=is_fetched) if config.is_bi_encoder else None,
    )


def save_checkpoint(checkpoint: Checkpoint, folder: str | Path, *, weights_dtype: dtype | None = None) -> None:
    """Write a checkpoint atomically, for `load_checkpoint` and upstream.

    Args:
        checkpoint: Checkpoint to write.
        folder: New folder.
        weights_dtype: Precision of the file; None keeps the model's. `torch.int8` stores matrices as integers with
            scales, which upstream cannot read.

    Raises:
        CheckpointError: The folder exists.
    """
    target = Path(folder)
    if target.exists():
        raise CheckpointError(f"`{target}` exists already; checkpoints are never overwritten")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as staging:
        config = json.dumps(checkpoint.config.to_dict(), indent=2, sort_keys=True)
        (staging / CONFIG).write_text(config + "\n", encoding="utf-8")
        save_file(_to_save(checkpoint.model, weights_dtype), staging / _WEIGHTS, metadata={"format": "pt"})
        (staging / _WEIGHTS).chmod(0o644)  # safetensors creates it readable by the owner alone
        _write_tokenizer(checkpoint.layout.tokenizer, staging, checkpoint.config.shape.pad_id)
        if checkpoint.label_tokenizer is not None:
            label_folder = staging / LABEL_TOKENIZER
            label_folder.mkdir()
            _write_tokenizer(checkpoint.label_tokenizer, label_folder, checkpoint.config.label_shape.pad_id)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a folder's safetensors files.

    Args:
        folder: Folder with `model.safetensors`, or several files and their index.

    Returns:
        Tensors by name, on the CPU, as stored.

    Raises:
        CheckpointError: A file is missing, outside the folder, damaged or not safetensors.
    """
    return {name: tensor for path in _weight_files(folder) for name, tensor in _read_file(path).items()}


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own, and torch's about headers
        raise CheckpointError(f"`{path}` is not a complete safetensors file: {cause(error)}") from error


def _weight_files(folder: Path) -> list[Path]:
    names = _weight_names(folder)
    found = {name: own_file(folder, name) for name in names if _is_weight_name(name)}
    missing = [name for name in names if found.get(name) is None]
    if missing:
        reason = (
            "its pytorch_model.bin is not read, because unpickling a file runs code from it; "
            "convert it to safetensors first"
            if (folder / "pytorch_model.bin").is_file()
            else f"{listed(missing)} not found"
        )
        raise CheckpointError(f"`{folder}` holds no safetensors weights: {reason}")
    return [path for path in found.values() if path is not None]


def _weight_names(folder: Path) -> list[str]:
    index = read_json(folder, WEIGHTS_INDEX)
    if index is None:
        return [_WEIGHTS]
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"`{folder / WEIGHTS_INDEX}` is no index of weights: it holds no `weight_map`")
    return sorted(set(places.values()))


def _is_weight_name(name: str) -> bool:
    """Test for the name of a file beside its index, without any path."""
    return name.endswith(".safetensors") and Path(name).name == name


def _check_markers(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    expected = {LABEL: config.class_token_index, SEP: config.text_token_index}
    if config.example_token_index < config.vocab_size:  # beyond the table it is an unplaced default
        expected[EXAMPLE] = config.example_token_index
    check_markers(tokenizer, expected, optional=(EXAMPLE,))
    for marker in (LABEL, SEP):
        if expected[marker] >= config.vocab_size:
            raise CheckpointError(
                f"the id {expected[marker]} of {marker} lies beyond the config's `vocab_size` {config.vocab_size}"
            )


def _check_vocabulary(tokenizer: TextTokenizer, vocab_size: int) -> None:
    if tokenizer.highest_id >= vocab_size:
        raise CheckpointError(
            f"the tokenizer gives ids up to {tokenizer.highest_id}, the config's `vocab_size` is {vocab_size}"
        )


def _check_fit(model: ScoringHead, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Check that a file holds exactly a network's weights.

    Args:
        model: Network on the meta device.
        weights: Content of the file.
        folder: Folder for the message.

    Raises:
        CheckpointError: Names, shapes or types differ, or the network exceeds every known one.
    """
    own = model.state_dict(keep_vars=True)
    size = sum(value.numel() for value in own.values())
    if size > _MOST_WEIGHTS:
        raise CheckpointError(f"the config in `{folder}` describes {size:,} weights, more than {_MOST_WEIGHTS:,}")
    held = {id(own[key]) for key in weights if key in own}  # one name of a tied tensor suffices
    missing = {key for key, value in own.items() if key not in weights and id(value) not in held}
    both = own.keys() & weights.keys()
    problems = {
        "missing": {key for key in missing if not _UNREAD.search(key)},
        "unexpected": {key for key in weights if key not in own and not _is_surplus(model, key)},
        "mis-shaped": {
            f"{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
            for key in both
            if weights[key].shape != own[key].shape
        },
        "of whole numbers": {key for key in both if not weights[key].dtype.is_floating_point},
    }
    told = [f"{len(names)} {kind}: {listed(names)}" for kind, names in problems.items() if names]
    if told:
        raise CheckpointError(f"the weights in `{folder}` do not fit its config: {'; '.join(told)}")


def _fill(model: ScoringHead, weights: Mapping[str, Tensor]) -> None:
    """Copy matching weights into the model, converting precision only."""
    own = model.state_dict(keep_vars=True)
    loaded = {id(own[key]) for key in weights if key in own}
    for key, value in own.items():
        if key in weights:
            value.data.copy_(weights[key])
        elif id(value) not in loaded:
            value.data.zero_()  # unused, but saved again: no uninitialised memory


def _is_surplus(model: ScoringHead, key: str) -> bool:
    return bool(_SURPLUS.search(key) or (model.config.is_bi_encoder and _SURPLUS_IN_BI_ENCODERS.search(key)))


def _load_label_tokenizer(folder: Path, config: ModelConfig, *, is_fetched: bool) -> TextTokenizer:
    tokenizer = load_tokenizer(_label_tokenizer_folder(folder, config, is_fetched=is_fetched))
    _check_vocabulary(tokenizer, config.label_shape.vocab_size)
    return tokenizer


def _label_tokenizer_folder(folder: Path, config: ModelConfig, *, is_fetched: bool) -> Path:
    if (own := own_folder(folder, LABEL_TOKENIZER)) is not None:
        return own
    if config.label_model_name is None:
        raise ConfigError(f"`{folder}` names no label tokenizer: neither {LABEL_TOKENIZER}/ nor `label_model_name`")
    if not is_fetched:
        raise CheckpointError(
            f"`{folder}` holds no {LABEL_TOKENIZER}/, and a local folder's `label_model_name` "
            f"{shown(config.label_model_name)} is not fetched: put that model's tokenizer there"
        )
    return fetched(config.label_model_name, wanted=TOKENIZER_FILES)


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
