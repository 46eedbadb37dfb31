"""ONNX teachers and encoders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import numpy as np

from gliclass_rerank.errors import CheckpointError, listed
from gliclass_rerank.text_models.interfaces import (
    Embedded,
    FloatArray,
    QueryPassages,
    Role,
    Scored,
    by_ask,
    in_text_order,
    pairs_of,
    unit_length,
)
from gliclass_rerank.text_models.onnx_session import OnnxModel
from gliclass_rerank.text_models.options import ModelOptions, Pooling

_STATES_RANK: Final = 3  # [num_rows, seq_len, hidden]
# Below every cosine, so that padding never matches best.
_NO_MATCH: Final = -2.0


def logits_output(model: OnnxModel) -> str | None:
    """Name of a cross-encoder's output of one logit per row; None for other models."""
    return next(
        (name for name, shape in model.output_shapes.items() if len(shape) == _STATES_RANK - 1 and shape[-1] == 1), None
    )


def _states_output(model: OnnxModel) -> str:
    shapes = model.output_shapes
    name = next((name for name, shape in shapes.items() if len(shape) == _STATES_RANK), None)
    if name is None:
        raise CheckpointError(f"`{model.folder}` gives no token states; its outputs are {listed(shapes)}")
    return name


class OnnxCrossEncoder:
    """ONNX cross-encoder, one logit per query-passage pair.

    Args:
        model: ONNX model.
        options: Prefixes.

    Raises:
        CheckpointError: The model has no output of one logit per row.
    """

    is_logit: Final = True

    def __init__(self, model: OnnxModel, options: ModelOptions) -> None:
        output = logits_output(model)
        if output is None:
            raise CheckpointError(
                f"`{model.folder}` gives no single logit a row; its outputs are {listed(model.output_shapes)}"
            )
        self._model, self._output, self._options = model, output, options

    def score(self, asks: Sequence[QueryPassages]) -> Scored:
        """Score passages by logit."""
        pairs = pairs_of(asks, self._options)
        logits = np.zeros(len(pairs), dtype=np.float32)
        num_tokens = 0
        for batch in self._model.run(pairs, self._output):
            logits[batch.rows] = batch.output[:, 0]
            num_tokens += int(batch.mask.sum())
        return Scored(by_ask(logits, asks), num_tokens)


class OnnxLateInteraction:
    """ColBERT's MaxSim over last hidden states.

    Args:
        model: ONNX model.
        options: Prefixes.

    Raises:
        CheckpointError: The model has no token states.
    """

    is_logit: Final = False

    def __init__(self, model: OnnxModel, options: ModelOptions) -> None:
        self._model, self._output, self._options = model, _states_output(model), options

    def score(self, asks: Sequence[QueryPassages]) -> Scored:
        """Score passages by the sum of best cosines; equal passages are encoded once, one batch at a time."""
        queries, num_tokens = self._query_states([query for query, _ in asks])
        readers: dict[str, list[tuple[int, int]]] = {}  # queries and positions by passage
        for ask, (_, passages) in enumerate(asks):
            for index, passage in enumerate(passages):
                readers.setdefault(passage, []).append((ask, index))
        texts = list(readers)
        scores = [[0.0] * len(passages) for _, passages in asks]
        for batch in self._model.run([self._options.passage_prefix + text for text in texts], self._output):
            states = unit_length(batch.output)
            num_tokens += int(batch.mask.sum())
            for row, position in enumerate(batch.rows):
                real = states[row][batch.mask[row]]
                for ask, index in readers[texts[position]]:
                    scores[ask][index] = float((queries[ask] @ real.T).max(axis=1, initial=_NO_MATCH).sum())
        return Scored(by_ask([score for row in scores for score in row], asks), num_tokens)

    def _query_states(self, queries: Sequence[str]) -> tuple[list[FloatArray], int]:
        states: dict[int, FloatArray] = {}
        num_tokens = 0
        texts = [self._options.query_prefix + query for query in queries]
        for batch in self._model.run(texts, self._output, filled_to=self._options.query_tokens):
            for row, position in enumerate(batch.rows):
                states[position] = unit_length(batch.output[row][batch.mask[row]])
                num_tokens += len(states[position])
        return [states[position] for position in range(len(queries))], num_tokens


class OnnxTextEncoder:
    """ONNX sentence encoder, pooled from last hidden states.

    Args:
        model: ONNX model.
        options: Prefixes and pooling.

    Raises:
        CheckpointError: The model has no token states, or its folder asks for an unknown pooling.
    """

    def __init__(self, model: OnnxModel, options: ModelOptions) -> None:
        self._model, self._output, self._options = model, _states_output(model), options
        self._pooling = options.pooling or _folder_pooling(model)

    def encode(self, texts: Sequence[str], role: Role) -> Embedded:
        """Embed texts."""
        prefix = self._options.prefix(role)
        vectors: dict[int, FloatArray] = {}
        num_tokens = 0
        for batch in self._model.run([prefix + text for text in texts], self._output):
            num_tokens += int(batch.mask.sum())
            if self._pooling == "cls":
                pooled = batch.output[:, 0]
            else:
                weights = batch.mask[..., None].astype(np.float32)
                pooled = (batch.output * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
            vectors.update(zip(batch.rows, unit_length(pooled), strict=True))
        return in_text_order(vectors, num_tokens)


def _folder_pooling(model: OnnxModel) -> Pooling:
    path = model.folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    try:
        values = dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"`{path}` is no pooling config: {error}") from error
    # Newer folders name one mode, older ones have a switch for each.
    if values.get("pooling_mode") == "cls" or values.get("pooling_mode_cls_token"):
        return "cls"
    if values.get("pooling_mode") == "mean" or values.get("pooling_mode_mean_tokens"):
        return "mean"
    raise CheckpointError(f"`{path}` must ask for the pooling `cls` or `mean`, got {values}")
