"""Encoders of a store: what turns an example's text into a vector, and how a store knows one again.

A store asks for unit vectors and for a *fingerprint*: a text that is the same whenever the same model is loaded and
another one for another model. Besides, a store keeps the vector of a fixed text, so that a model which changed behind
an unchanged fingerprint is noticed too (`ExampleStore`).

Texts of examples and of searches are the same kind of text, so there is one way to encode, and models that tell queries
from passages take both for queries.

The runtimes themselves are those of `runtimes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from gliclass_rerank.checks import checked_text
from gliclass_rerank.errors import BackendError, InputError, cause, shown
from gliclass_rerank.examples.forks import ForkedLock
from gliclass_rerank.examples.index import FloatArray
from gliclass_rerank.files.digests import folder_digest

_NUM_VALUES: Final = 64


class StoreEncoder(Protocol):
    """Turns texts into vectors; used by several threads at once."""

    @property
    def fingerprint(self) -> str:
        """Names the model and whatever else its vectors depend on; the same in every process."""
        ...

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts.

        Args:
            texts: Any strings, at least one.

        Returns:
            FloatArray [num_texts, dim]. Each of length 1, or zero for a text in which the model finds nothing.

        Raises:
            BackendError: The forward pass failed.
        """
        ...


class LocalEncoder:
    """A model in a folder: the backbone of a GLiClass checkpoint, a sentence-transformers model or an ONNX encoder.

    Args:
        model: A folder, or the name of a bundled model, or `bundled` for the single checkpoint among them, of which
            nothing beyond the package is needed: the mean of its tokens' states.
        max_tokens: Longest text; what is longer is cut.
        batch_tokens: Tokens of one forward pass, padding included; None for 2,048 on a CPU, else 65,536.
        device: A torch device; None for the best there is.
        prefix: Written before every text, as the model was trained; a sentence-transformers model's own prompt for
            queries is used if this is empty.

    Raises:
        CheckpointError: The folder is missing or cannot be loaded.
        ConfigError: A setting is out of range, or the checkpoint has no backbone that embeds texts.
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
        self._turn = ForkedLock()  # sentence-transformers' tokenizers hold settings of the call
        # Sampled, because a store is opened often; its probe vector notices what lies between the samples.
        settings = {"max_tokens": max_tokens, "prefix": prefix}
        digest = folder_digest(folder, settings=settings, is_sampled=True)
        self.fingerprint: Final = f"folder:{digest}"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """See `StoreEncoder`.

        Args:
            texts: What to embed.

        Returns:
            The vectors.
        """
        with self._turn:
            return self._encoder.encode(texts, "query").vectors


class SentenceTransformerEncoder:
    """A `SentenceTransformer` that is already loaded, from wherever.

    Args:
        model: The model. Its settings must not change afterwards.
        name: Its fingerprint; None takes one from its weights, which loading it in another precision changes.

    Raises:
        InputError: Not a `SentenceTransformer`, or a blank name.
    """

    def __init__(self, model: Any, *, name: str | None = None) -> None:  # Any: the library is optional
        if not callable(getattr(model, "encode_query", None)) or not callable(getattr(model, "state_dict", None)):
            raise InputError(f"`model` must be a SentenceTransformer, got {type(model).__name__}")
        self._model = model
        self._turn = ForkedLock()
        self.fingerprint: Final = f"sentence-transformers:{_weights_digest(model) if name is None else _named(name)}"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """See `StoreEncoder`.

        Args:
            texts: What to embed.

        Returns:
            The vectors.

        Raises:
            BackendError: The forward pass failed.
        """
        try:
            with self._turn:
                vectors = self._model.encode_query(list(texts), convert_to_numpy=True, show_progress_bar=False)
        except (RuntimeError, IndexError) as error:  # out of memory is a RuntimeError too
            raise BackendError(f"the encoder failed: {cause(error)}") from error
        return _unit_length(np.asarray(vectors, dtype=np.float32))


class CallableEncoder:
    """Any function that embeds a list of texts, such as a service's client.

    Args:
        function: Takes a list of strings, returns as many vectors of one length, as arrays or lists of numbers. Called
            from several threads at once.
        name: The fingerprint: whatever the vectors depend on, such as the model's name and version.

    Raises:
        InputError: Not a function, or a blank name.
    """

    def __init__(self, function: Callable[[list[str]], Any], *, name: str) -> None:  # Any: see above
        if not callable(function):
            raise InputError(f"`function` must be callable, got {shown(function)}")
        self._function = function
        self.fingerprint: Final = f"callable:{_named(name)}"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """See `StoreEncoder`. What the function raises is raised as it is.

        Args:
            texts: What to embed.

        Returns:
            The vectors, scaled to length 1.

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
    """Embed texts and make sure that the result is what a store can use.

    Args:
        encoder: The encoder.
        texts: What to embed; may be empty if `dim` is given.
        dim: What the vectors must have; None for any.

    Returns:
        FloatArray [num_texts, dim].

    Raises:
        BackendError: Vectors of another number or shape, that are not finite or not of unit length.
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
    """Digest of a network's weights: of every tensor the shape and values from end to end."""
    digest = hashlib.sha256(f"{getattr(model, 'max_seq_length', None)} {getattr(model, 'prompts', None)}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().flatten()
        step = max(1, len(values) // _NUM_VALUES)
        digest.update(f"\n{name} {tuple(tensor.shape)}\n".encode())
        digest.update(values[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()
