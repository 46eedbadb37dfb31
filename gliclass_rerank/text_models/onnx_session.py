"""ONNX Runtime session on the CPU: texts or pairs in, batches of raw output out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Encoding, Tokenizer

from gliclass_rerank._imports import require_onnxruntime
from gliclass_rerank.errors import CheckpointError, listed
from gliclass_rerank.model.batch import length_groups
from gliclass_rerank.runtime.after_fork import OpenedHere
from gliclass_rerank.runtime.foreign_errors import as_backend_error, first_line
from gliclass_rerank.text_models.interfaces import FloatArray
from gliclass_rerank.text_models.options import ModelOptions

_KNOWN_INPUTS: Final = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_MASK: Final = "[MASK]"
_MODEL_FILES: Final = ("model.onnx", "onnx/model.onnx")


@dataclass(frozen=True)
class Batch:
    """Output of one forward pass.

    Attributes:
        rows: Positions of its texts in the input.
        output: FloatArray [num_rows, ...]. Raw output.
        mask: BoolArray [num_rows, seq_len]. True on tokens and filling.
    """

    rows: list[int]
    output: FloatArray
    mask: NDArray[np.bool_]


class OnnxModel:
    """ONNX transformer with its `tokenizer.json`.

    Args:
        folder: Folder with `model.onnx` (or `onnx/model.onnx`) and `tokenizer.json`.
        options: Runtime options.

    Raises:
        CheckpointError: A file is missing or damaged, or the inputs are not token ids, mask and types.
        MissingDependencyError: `onnxruntime` is not installed.
    """

    def __init__(self, folder: Path, options: ModelOptions) -> None:
        path = onnx_file(folder)
        if path is None or not (folder / "tokenizer.json").is_file():
            raise CheckpointError(f"`{folder}` must hold model.onnx and tokenizer.json")
        self.folder = folder
        self._batch_tokens = options.batch_budget
        self._opened = OpenedHere(partial(_session, path, options.threads))
        self._inputs = [node.name for node in self._opened.get().get_inputs()]
        if unknown := set(self._inputs) - _KNOWN_INPUTS:
            raise CheckpointError(f"`{path}` wants inputs that are not text: {listed(unknown)}")
        self._tokenizer = _tokenizer(folder / "tokenizer.json", options)

    @property
    def output_shapes(self) -> dict[str, list[int | str | None]]:
        """Shape of each output; dynamic axes are names or None."""
        return {node.name: list(node.shape) for node in self._opened.get().get_outputs()}

    def run(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], output: str, *, filled_to: int = 0
    ) -> Iterator[Batch]:
        """Run texts or pairs in batches of similar length.

        Args:
            texts: Texts, or query-passage pairs whose longer part is truncated first.
            output: Name of the output.
            filled_to: Minimum length, reached with unattended `[MASK]` tokens.

        Yields:
            Batches, longest texts first.

        Raises:
            BackendError: The forward pass failed.
        """
        encodings = self._tokenizer.encode_batch(list(texts))
        lengths = {row: max(len(encoding.ids), filled_to) for row, encoding in enumerate(encodings)}
        for rows in length_groups(lengths, self._batch_tokens):
            yield self._forward(rows, [encodings[row] for row in rows], output, filled_to)

    def _forward(self, rows: list[int], encodings: Sequence[Encoding], output: str, filled_to: int) -> Batch:
        shape = len(encodings), max(filled_to, *(len(encoding.ids) for encoding in encodings))
        arrays = {name: np.zeros(shape, dtype=np.int64) for name in _KNOWN_INPUTS}
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            arrays["input_ids"][row, :length] = encoding.ids
            arrays["attention_mask"][row, :length] = 1
            arrays["token_type_ids"][row, :length] = encoding.type_ids
            if length < filled_to:
                arrays["input_ids"][row, length:filled_to] = self._mask_id()
        session = self._opened.get()
        with as_backend_error(f"onnxruntime could not run `{self.folder}` on a batch of shape {shape}"):
            (values,) = session.run([output], {name: arrays[name] for name in self._inputs})
        is_real = arrays["attention_mask"].astype(bool)
        is_real[:, :filled_to] = True
        return Batch(rows, np.asarray(values, dtype=np.float32), is_real)

    def _mask_id(self) -> int:
        mask_id = self._tokenizer.token_to_id(_MASK)
        if mask_id is None:
            raise CheckpointError(f"the tokenizer in `{self.folder}` has no {_MASK} to fill queries with")
        return int(mask_id)


def onnx_file(folder: Path) -> Path | None:
    """ONNX model of a folder, or None."""
    return next((folder / name for name in _MODEL_FILES if (folder / name).is_file()), None)


def _session(path: Path, threads: int | None) -> Any:  # Any: onnxruntime has no types
    ort = require_onnxruntime(extra="mining")
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads or 0  # 0: one per core
    settings.inter_op_num_threads = 1
    # Waiting threads would otherwise spin on their core.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no public base class
        raise CheckpointError(f"`{path}` cannot be loaded by onnxruntime: {first_line(error)}") from error


def _tokenizer(path: Path, options: ModelOptions) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise CheckpointError(f"`{path}` is not a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(options.max_tokens)
    # A special token spelled out in a passage is text ...
    tokenizer.encode_special_tokens = True
    # ... but one in a prefix is intended: a plain added token is always recognised.
    for prefix in (options.query_prefix.strip(), options.passage_prefix.strip()):
        if prefix and tokenizer.token_to_id(prefix) is not None:
            tokenizer.add_tokens([AddedToken(prefix, special=False, normalized=False)])
    return tokenizer
