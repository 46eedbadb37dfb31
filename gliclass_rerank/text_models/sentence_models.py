"""Teachers and encoders on `sentence-transformers`: cross-encoders and sentence encoders from local folders.

Only safetensors weights are read, no remote code is run, and modules must be the library's own: a module name in a
folder is otherwise an arbitrary import.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from gliclass_rerank._imports import require
from gliclass_rerank.errors import BackendError, CheckpointError, listed, shown
from gliclass_rerank.model.batch import length_groups
from gliclass_rerank.text_models.interfaces import (
    Embedded,
    FloatArray,
    QueryPassages,
    Role,
    Scored,
    by_ask,
    in_text_order,
    pairs_of,
    set_torch_threads,
    unit_length,
)
from gliclass_rerank.text_models.options import ModelOptions

_LIBRARY: Final = "sentence_transformers"


class SentenceCrossEncoder:
    """`CrossEncoder` with one output, without its activation: scores are logits.

    Args:
        folder: Model folder.
        options: Runtime options.

    Raises:
        CheckpointError: The folder cannot be loaded, or the model has several outputs.
        MissingDependencyError: `sentence-transformers` is not installed.
    """

    is_logit: Final = True

    def __init__(self, folder: Path, options: ModelOptions) -> None:
        self._options = options
        self._model = _load(folder, "CrossEncoder", options)
        self._identity = require("torch", extra="mining").nn.Identity()
        if self._model.num_labels != 1:
            raise CheckpointError(f"a teacher must have one output, `{folder}` has {self._model.num_labels}")
        self._model.max_seq_length = min(options.max_tokens, self._model.max_seq_length or options.max_tokens)

    def score(self, asks: Sequence[QueryPassages]) -> Scored:
        """Score passages by logit."""
        options = self._options
        pairs = pairs_of(asks, options)
        lengths = _lengths(self._model, [list(part) for part in zip(*pairs, strict=True)]) if pairs else {}
        logits = np.zeros(len(pairs), dtype=np.float32)
        for rows in length_groups(lengths, options.batch_budget):
            batch = [pairs[row] for row in rows]
            with _backend_errors():
                logits[rows] = self._model.predict(
                    batch, batch_size=len(batch), activation_fn=self._identity, show_progress_bar=False
                )
        return Scored(by_ask(logits, asks), sum(lengths.values()))


class SentenceEncoder:
    """`SentenceTransformer` encoder, with its own prompts unless a prefix is given.

    Args:
        folder: Model folder.
        options: Runtime options.

    Raises:
        CheckpointError: The folder cannot be loaded.
        MissingDependencyError: `sentence-transformers` is not installed.
    """

    def __init__(self, folder: Path, options: ModelOptions) -> None:
        self._options = options
        self._model = _load(folder, "SentenceTransformer", options)
        if options.dtype is not None:
            self._model.to(getattr(require("torch", extra="mining"), options.dtype))
        self._model.max_seq_length = min(options.max_tokens, self._model.max_seq_length or options.max_tokens)

    def encode(self, texts: Sequence[str], role: Role) -> Embedded:
        """Embed texts."""
        if not texts:
            return in_text_order({}, 0)
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        prompt = self._options.prefix(role) or None
        lengths = _lengths(self._model, [list(texts)])
        vectors: dict[int, FloatArray] = {}
        for rows in length_groups(lengths, self._options.batch_budget):
            batch = [texts[row] for row in rows]
            with _backend_errors():
                found = encode(batch, prompt=prompt, batch_size=len(batch), show_progress_bar=False)
            vectors.update(zip(rows, unit_length(np.asarray(found, dtype=np.float32)), strict=True))
        return in_text_order(vectors, sum(lengths.values()))


def _load(folder: Path, kind: str, options: ModelOptions) -> Any:  # Any: the library is optional
    library = require(_LIBRARY, extra="mining")
    _check_modules(folder)
    set_torch_threads(options.threads)
    try:
        return getattr(library, kind)(
            str(folder),
            device=options.device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"`{folder}` cannot be loaded as a {kind}: {reason}") from error


def _check_modules(folder: Path) -> None:
    path = folder / "modules.json"
    if not path.is_file():
        return
    try:
        names = [str(module["type"]) for module in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"`{path}` is not a list of modules: {shown(error)}") from error
    foreign = [name for name in names if not name.startswith(f"{_LIBRARY}.")]
    if foreign:
        raise CheckpointError(f"`{path}` names modules that are not {_LIBRARY}'s own: {listed(foreign)}")


def _lengths(model: Any, columns: Sequence[list[str]]) -> dict[int, int]:  # Any: see _load
    """Number of tokens per row after truncation."""
    ids = model.tokenizer(*columns, truncation=True, max_length=model.max_seq_length)["input_ids"]
    return {row: len(row_ids) for row, row_ids in enumerate(ids)}


@contextmanager
def _backend_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, IndexError) as error:  # out of memory is a RuntimeError too
        raise BackendError(f"the forward pass failed: {str(error).partition(chr(10))[0]}") from error
