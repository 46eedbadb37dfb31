"""Loading of teachers and encoders: detects a folder's model kind and runtime.

Torch is imported lazily, because ONNX models do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.checkpoint.location import bundled_folder, local_folder
from gliclass_rerank.errors import CheckpointError, ConfigError, shown
from gliclass_rerank.files.atomic_write import read_json
from gliclass_rerank.text_models.cosine import CosineTeacher
from gliclass_rerank.text_models.interfaces import Teacher, TextEncoder
from gliclass_rerank.text_models.onnx_models import (
    OnnxCrossEncoder,
    OnnxLateInteraction,
    OnnxTextEncoder,
    logits_output,
)
from gliclass_rerank.text_models.onnx_session import OnnxModel, onnx_file
from gliclass_rerank.text_models.options import Kind, ModelOptions

# Stands for the bundled checkpoint.
BUNDLED: Final = "bundled"


def load_teacher(model: str, options: ModelOptions) -> Teacher:
    """Load a teacher.

    Args:
        model: Name for `model_folder`, of an ONNX model (`model.onnx`, `tokenizer.json`), a sentence-transformers model
            or a GLiClass checkpoint.
        options: Runtime options. ONNX models other than cross-encoders need `kind`; late interaction needs an ONNX
            model.

    Returns:
        The teacher; the kind `encoder` scores by cosine.

    Raises:
        ConfigError: The kind cannot be detected, or the runtime does not support it.
        CheckpointError: The folder is missing or cannot be loaded.
        MissingDependencyError: The runtime is not installed.
    """
    folder = model_folder(model)
    if _is_onnx(folder):
        return _onnx_teacher(OnnxModel(folder, _on_cpu(options)), options)
    kind = options.kind or _kind(folder)
    if kind == "cross-encoder":
        from gliclass_rerank.text_models.sentence_models import SentenceCrossEncoder

        return SentenceCrossEncoder(folder, options)
    if kind == "encoder":
        return CosineTeacher(load_encoder(model, options))
    if kind == "gliclass":
        from gliclass_rerank.text_models.gliclass_models import GLiClassTeacher

        return GLiClassTeacher(folder, options)
    raise ConfigError(f"`{model}` holds no model of the kind {kind!r}")


def load_encoder(model: str, options: ModelOptions) -> TextEncoder:
    """Load an encoder.

    Args:
        model: Name for `model_folder`, of an ONNX model, a sentence-transformers model or a GLiClass checkpoint, whose
            backbone is used.
        options: Runtime options; `kind` is ignored.

    Returns:
        The encoder.

    Raises:
        CheckpointError: The folder is missing or cannot be loaded.
        ConfigError: The checkpoint has no suitable backbone.
        MissingDependencyError: The runtime is not installed.
    """
    folder = model_folder(model)
    if _is_onnx(folder):
        return OnnxTextEncoder(OnnxModel(folder, _on_cpu(options)), options)
    if _kind(folder) == "gliclass":
        from gliclass_rerank.text_models.gliclass_models import GLiClassEncoder

        return GLiClassEncoder(folder, options)
    from gliclass_rerank.text_models.sentence_models import SentenceEncoder

    return SentenceEncoder(folder, options)


def model_folder(model: str | Path) -> Path:
    """Find a model's local folder: a folder, a bundled model's name, or `bundled`; else a `CheckpointError`."""
    folder = local_folder(model) or (bundled_folder() if model == BUNDLED else None)
    if folder is None:
        raise CheckpointError(
            f"a model must be a folder, a bundled model's name or {BUNDLED!r}, got {shown(str(model))}"
        )
    return folder


def _is_onnx(folder: Path) -> bool:
    # Hub repositories often carry an export beside the weights; the weights are authoritative.
    return onnx_file(folder) is not None and not any(folder.glob("*.safetensors"))


def _on_cpu(options: ModelOptions) -> ModelOptions:
    if options.device not in {None, "cpu"}:
        raise ConfigError(f"ONNX models run on the CPU only, got `device` {options.device!r}")
    return options


def _onnx_teacher(model: OnnxModel, options: ModelOptions) -> Teacher:
    kind = options.kind or ("cross-encoder" if logits_output(model) is not None else None)
    if kind == "cross-encoder":
        return OnnxCrossEncoder(model, options)
    if kind == "late-interaction":
        return OnnxLateInteraction(model, options)
    if kind == "encoder":
        return CosineTeacher(OnnxTextEncoder(model, options))
    if kind is None:
        raise ConfigError(
            f"the ONNX model in `{model.folder}` gives token states: its kind must be said, "
            "'late-interaction' or 'encoder'"
        )
    raise ConfigError(f"an ONNX model cannot be of the kind {kind!r}")


def _kind(folder: Path) -> Kind:
    """Kind of a folder without an ONNX model."""
    from gliclass_rerank.model.config import MODEL_TYPE

    config = _json(folder, "config.json")
    if config.get("model_type") == MODEL_TYPE:
        return "gliclass"
    saved_as = _json(folder, "config_sentence_transformers.json").get("model_type")
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    if saved_as == "CrossEncoder" or any(name.endswith("ForSequenceClassification") for name in names):
        return "cross-encoder"
    if (folder / "modules.json").is_file():
        return "encoder"
    raise CheckpointError(
        f"`{folder}` holds neither an ONNX model nor a sentence-transformers model nor a GLiClass checkpoint"
    )


def _json(folder: Path, name: str) -> Mapping[str, Any]:  # Any: JSON
    values = read_json(folder, name)
    return values if isinstance(values, dict) else {}
