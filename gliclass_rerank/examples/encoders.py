"""Text encoders of a store, and their fingerprints.

A store needs unit vectors and a *fingerprint*, a text that identifies the model across processes. It also keeps the
vector of a fixed text, which reveals a model that changed under an unchanged fingerprint (`ExampleStore`).

Examples and searches are the same kind of text, so models that distinguish queries from passages encode both as
queries. The runtimes are those of `text_models`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from gliclass_rerank.calls.fork_hooks import ForkedLock
from gliclass_rerank.checks import checked_text
from gliclass_rerank.errors import BackendError, InputError, cause, shown
from gliclass_rerank.examples.index import FloatArray
from gliclass_rerank.files.digests import folder_digest

_NUM_VALUES: Final = 64
# Prefix of fingerprints made of a folder's files.
FOLDER: Final = "folder:"


class StoreEncoder(Protocol):
    """Text encoder of a store; thread-safe."""

    @property
    def fingerprint(self) -> str:
        """Identity of the model and its settings; the same in every process."""
        ...

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts.

        Args:
            texts: Any strings, at least one.

        Returns:
            FloatArray [num_texts, dim], of unit length, or zero if the model finds nothing in a text.

        Raises:
            BackendError: The forward pass failed.
        """
        ...


class LocalEncoder:
    """Encoder in a folder: a GLiClass checkpoint's backbone, a sentence-transformers model or an ONNX encoder.

    Args:
        model: Folder, name of a bundled model, or `bundled` for the single bundled checkpoint (mean of its token
            states).
        max_tokens: Longest text; longer ones are truncated.
        batch_tokens: Tokens per forward pass, padding included; None for 2,048 on a CPU, else 65,536.
        device: Torch device; None for the best available.
        prefix: Prefix of every text; empty for a sentence-transformers model's own query prompt.

    Raises:
        CheckpointError: The folder is missing or cannot be loaded.
        ConfigError: A setting is out of range, or the backbone does not embed texts.
        MissingDependencyError: The runtime is not installed.
    """

    def __init__(
        self,
        model: str | Path = "bundled",
        *,
        max_tokens: int = 256,
        batch_tokens: int | None = None,
        device: str | None = None,
        prefix: str = "",
    ) -> None:
        from gliclass_rerank.text_models.load import load_encoder, model_folder
        from gliclass_rerank.text_models.options import ModelOptions

        options = ModelOptions(
            max_tokens=max_tokens,
            batch_tokens=batch_tokens,
            device=device,
            query_prefix=checked_text("`prefix`", prefix),
        )
        folder = model_folder(model)
        self._encoder = load_encoder(str(folder), options)
        self._turn = ForkedLock()  # sentence-transformers' tokenizers hold per-call settings
        # Sampled, because stores open often; the probe vector catches changes between the samples.
        settings = {"max_tokens": max_tokens, "prefix": prefix}
        digest = folder_digest(folder, settings=settings, is_sampled=True)
        self.fingerprint: Final = f"{FOLDER}{digest}"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts."""
        with self._turn:
            return self._encoder.encode(texts, "query").vectors


class SentenceTransformerEncoder:
    """Encoder over a loaded `SentenceTransformer`.

    Args:
        model: Model; its settings must not change afterwards.
        name: Fingerprint; None for one from its weights, which depends on their precision.

    Raises:
        InputError: `model` is not a `SentenceTransformer`, or the name is blank.
    """

    def __init__(self, model: Any, *, name: str | None = None) -> None:  # Any: the library is optional
        if not callable(getattr(model, "encode_query", None)) or not callable(getattr(model, "state_dict", None)):
            raise InputError(f"`model` must be a SentenceTransformer, got {type(model).__name__}")
        self._model = model
        self._turn = ForkedLock()
        self.fingerprint: Final = f"sentence-transformers:{_weights_digest(model) if name is None else _named(name)}"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts; a failed forward pass is a `BackendError`."""
        try:
            with self._turn:
                vectors = self._model.encode_query(list(texts), convert_to_numpy=True, show_progress_bar=False)
        except (RuntimeError, IndexError) as error:  # out of memory is a RuntimeError too
            raise BackendError(f"the encoder failed: {cause(error)}") from error
        return _unit_length(np.asarray(vectors, dtype=np.float32))


class CallableEncoder:
    """Encoder over any function that embeds a list of texts, such as a service's client.

    Args:
        function: Function from strings to equally long vectors, as arrays or lists; called from several threads.
        name: Fingerprint, such as the model's name and version.

    Raises:
        InputError: `function` is not callable, or the name is blank.
    """

    def __init__(self, function: Callable[[list[str]], Any], *, name: str) -> None:  # Any: see above
        if not callable(function):
            raise InputError(f"`function` must be callable, got {shown(function)}")
        self._function = function
        self.fingerprint: Final = f"callable:{_named(name)}"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts and scale the vectors to length 1; the function's exceptions pass through.

        Args:
            texts: Texts to embed.

        Returns:
            The vectors.

        Raises:
            BackendError: The function returned no vectors.
        """
        returned = self._function(list(texts))
        try:
            vectors = np.asarray(returned, dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise BackendError(f"the encoder must return vectors of one length: {cause(error)}") from None
        if vectors.ndim != 2:
            raise BackendError(f"the encoder must return one vector a text, got the shape {list(vectors.shape)}")
        return _unit_length(vectors)


def encode_checked(encoder: StoreEncoder, texts: Sequence[str], *, dim: int | None = None) -> FloatArray:
    """Embed texts and validate the result.

    Args:
        encoder: Text encoder.
        texts: Texts; may be empty if `dim` is given.
        dim: Required dimension; None for any.

    Returns:
        FloatArray [num_texts, dim].

    Raises:
        BackendError: Wrong number or shape of vectors, or vectors not finite or not of unit length.
    """
    if not texts and dim is not None:
        return np.zeros((0, dim), dtype=np.float32)
    returned = encoder.encode(texts)
    try:
        vectors = np.ascontiguousarray(returned, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise BackendError(f"the encoder must return vectors of one length: {cause(error)}") from error
    wanted = f"[{len(texts)}, {'dim' if dim is None else dim}]"
    if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.shape[1] != (dim or vectors.shape[1] or 1):
        raise BackendError(f"the encoder must return vectors of the shape {wanted}, got {list(vectors.shape)}")
    lengths = np.linalg.norm(vectors, axis=1)
    is_usable = (np.abs(lengths - 1) < 1e-3) | (lengths == 0)  # half precision keeps three digits
    if not is_usable.all():
        wrong = int(np.flatnonzero(~is_usable)[0])
        raise BackendError(
            f"the encoder must return unit vectors, that of {shown(texts[wrong])} has length {lengths[wrong]}"
        )
    return vectors


def _unit_length(vectors: FloatArray) -> FloatArray:
    from gliclass_rerank.text_models.interfaces import unit_length

    return unit_length(vectors)


def _named(name: object) -> str:
    text = checked_text("`name`", name)
    if not text.strip():
        raise InputError(f"`name` must not be blank, got {shown(text)}")
    return text


def _weights_digest(model: Any) -> str:  # Any: see SentenceTransformerEncoder
    """Digest of a network's weights, from the shape and sampled values of each tensor."""
    digest = hashlib.sha256(f"{getattr(model, 'max_seq_length', None)} {getattr(model, 'prompts', None)}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().flatten()
        step = max(1, len(values) // _NUM_VALUES)
        digest.update(f"\n{name} {tuple(tensor.shape)}\n".encode())
        digest.update(values[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()
