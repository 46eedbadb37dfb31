"""BERT in blocks: absolute positions, plain attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gliclass_rerank.model.blocks.runner import BlockRunner


class BertBlocks(BlockRunner):
    """Takes a `Bert` apart."""

    @property
    def layers(self) -> Any:  # Any: modules of a transformers model, untyped there
        """The transformer layers, in order."""
        return self.backbone.encoder.layer  # type: ignore[union-attr]

    @property
    def positions_are_absolute(self) -> bool:
        """Candidates restart at 0, so that layers below the query's start stay independent of it."""
        return True

    def project(self, layer: int, states: Tensor, positions: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG002 - positions are in the embeddings
        """Queries, keys and values of a layer."""
        attention = self.layers[layer].attention.self
        heads = (attention.num_attention_heads, attention.attention_head_size)
        query, key, value = (
            projection(part).unflatten(-1, heads).transpose(1, 2)
            for projection, part in (
                (attention.query, states[:, :rows]),
                (attention.key, states),
                (attention.value, states),
            )
        )
        return query, key, value

    def finish(self, layer: int, states: Tensor, context: Tensor) -> Tensor:
        """Output projection, residual, feed-forward."""
        module = self.layers[layer]
        attended = module.attention.output(context, states)
        finished: Tensor = module.output(module.intermediate(attended), attended)
        return finished
