"""The model in eager torch, but for its transformer layers, which another runtime may run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from gliclass_rerank.calls.forks import between_groups, computing
from gliclass_rerank.model.batch import BlockBatch, TokenRows, WindowBatch
from gliclass_rerank.model.blocks.interface import LayerRunner
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.runtime.bucketing import fill_linear_layers
from gliclass_rerank.runtime.foreign_errors import as_backend_error
from gliclass_rerank.runtime.placement import Placement
from gliclass_rerank.types import Blocks, CachedStates, TokenIds, Window


class TorchBackend:
    """Runs a network where a placement says; moves it there once.

    Args:
        model: The network.
        placement: Where it runs.
        runner: Runs the layers of a `GLiClass`; None for torch.
    """

    def __init__(self, model: ScoringHead, placement: Placement, runner: LayerRunner | None = None) -> None:
        self._device = placement.device
        self._model = model.to(placement.device)
        self._options = {} if runner is None else {"runner": runner}
        on_cpu = placement.device.type == "cpu"
        for encoder in model.encoders:
            encoder.to(placement.dtype)
            if on_cpu and placement.dtype != torch.float32:
                fill_linear_layers(encoder)
        config = model.config
        self._pad_id = config.shape.pad_id
        self._label_pad_id = config.label_shape.pad_id if config.is_bi_encoder else config.shape.pad_id

    @torch.inference_mode()
    def logits(
        self,
        batch: Sequence[Window] | Blocks,
        groups: Sequence[Sequence[int]] = (),
        states: CachedStates | None = None,
    ) -> list[list[float]]:
        """Score one batch; see `Backend.logits`."""
        with computing(), as_backend_error("torch failed"):
            if isinstance(batch, Blocks):
                return self._block_logits(batch, groups, states)
            return self._window_logits(batch)

    @torch.inference_mode()
    def candidate_states(self, rows: Sequence[TokenIds], layer: int) -> NDArray[np.float32]:
        """States of a uni-encoder's candidates; see `Backend.candidate_states`."""
        assert isinstance(self._model, GLiClass), "others have no such layer"
        between_groups()
        with computing(), as_backend_error("torch failed"):
            tokens = TokenRows.of(rows, pad_id=self._label_pad_id, device=self._device)
            return self._model.candidate_states(tokens, layer).float().cpu().numpy()

    def _window_logits(self, windows: Sequence[Window]) -> list[list[float]]:
        batch = WindowBatch.of(windows, pad_id=self._pad_id, label_pad_id=self._label_pad_id, device=self._device)
        rows = self._model(batch, **self._options).float().tolist()
        return [row[: len(window.markers)] for row, window in zip(rows, windows, strict=True)]

    def _block_logits(
        self, blocks: Blocks, groups: Sequence[Sequence[int]], states: CachedStates | None
    ) -> list[list[float]]:
        batch = BlockBatch.of(
            blocks,
            groups,
            pad_id=self._pad_id,
            label_pad_id=self._label_pad_id,
            device=self._device,
            states=states,
        )
        flat = self._model(batch, **self._options).float().tolist()
        by_index = dict(zip(chain.from_iterable(groups), flat, strict=True))
        return [[by_index[index] for index in range(len(blocks.candidate_ids))]]
