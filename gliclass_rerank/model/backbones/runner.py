"""Block attention over a stock backbone: the query first, then candidates against the query's keys and values.

Each layer is split into `project` (queries, keys, values), `attend` and `finish` (output, residual, feed-forward).
Candidates never see each other and their positions restart, so their states do not depend on order, batch or companions
(compare Set-Encoder, arXiv 2404.06912). Below layer `start` they do not see the query either: those states can be
precomputed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_rerank.model.backbones.attention import attend_beside
from gliclass_rerank.model.backbones.interface import KeyValue, LayerRunner, QueryMemory
from gliclass_rerank.model.batch import LayerStates, TokenRows
from gliclass_rerank.model.full_attention import run_backbone

# `attend_beside` is faster on a CPU up to this many tokens per row, for any query length; not from 32 on.
_SHORT_ROW: Final = 16


@dataclass(frozen=True)
class Sight:
    """Attention view of a layer's rows.

    Attributes:
        shared: The query's keys and values, FloatTensor [1, num_heads, query_len, head_dim] each; None if hidden.
        query_positions: LongTensor [num_queries]. Positions of the attending tokens.
        key_positions: LongTensor [num_keys]. Positions of the query's keys, if visible, and the row's own.
        mask: Broadcasts to the scores: True on visible keys, or additive; None for no mask.
        table: The layer's weight-dependent tensors, from `QueryMemory.tables`.
    """

    shared: KeyValue | None
    query_positions: Tensor
    key_positions: Tensor
    mask: Tensor | None
    table: tuple[Tensor, ...]


class BlockRunner(LayerRunner, ABC):
    """Block runner of one backbone family; has no weights of its own.

    Args:
        backbone: Backbone made by `build_backbone`.

    Attributes:
        layers: Transformer layers, in order.
        num_layers: Number of layers.
        embed: Function from ids, LongTensor [num_rows, seq_len], a segment vector, FloatTensor [hidden] or None, and
            the first token's position (0 unless positions are absolute) to embedding output, FloatTensor [num_rows,
            seq_len, hidden]; of packed tokens without the first axis, a segment vector for each, and all positions by
            name.
        final_norm: Norm after the last layer.
        reach: Attention window of each layer to either side; None for unlimited.
    """

    # Candidates restart at position 0 instead of following the query.
    positions_are_absolute: ClassVar[bool]
    # Attention scores are products of projected queries and keys alone.
    scores_are_products: ClassVar[bool] = True

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.layers = self.layers_of(backbone)
        self.num_layers: int = len(self.layers)
        self.embed: Callable[..., Tensor] = backbone.embeddings  # type: ignore[assignment] # a module
        self.final_norm: nn.Module = nn.Identity()
        self.reach: Sequence[int | None] = (None,) * self.num_layers

    @staticmethod
    @abstractmethod
    def layers_of(backbone: Any) -> Any:  # Any: modules of a transformers model, untyped there
        """Transformer layers, in order."""

    def embed_words(self, words: Tensor) -> Tensor:
        """Embedding output of given word embeddings, FloatTensor [num_rows, seq_len, hidden]."""
        module: Any = self.backbone.embeddings  # Any: a module of transformers, untyped there
        states: Tensor = module(inputs_embeds=words)
        return states

    @abstractmethod
    def project(self, layer: Any, states: Tensor, positions: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the first `rows` tokens, keys and values of all: [num_rows, num_heads, tokens, head_dim] each."""

    @abstractmethod
    def finish(self, layer: Any, states: Tensor, context: Tensor) -> Tensor:
        """Layer output from attention output, [num_rows, seq_len, hidden] each."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight) -> Tensor:
        """Attention output: plain attention, unless a backbone adds to its scores.

        Args:
            query: FloatTensor [num_rows, num_heads, num_queries, head_dim].
            key: FloatTensor [num_rows, num_heads, num_keys, head_dim].
            value: FloatTensor [num_rows, num_heads, num_keys, head_dim].
            sight: Mask, positions and tables.

        Returns:
            FloatTensor [num_rows, num_heads, num_queries, head_dim].
        """
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=sight.mask)

    @cached_property
    def no_query(self) -> QueryMemory:
        """Memory of rows without a query."""
        return QueryMemory((), (None,) * self.num_layers, 0, ((),) * self.num_layers)

    def encode_query(
        self, ids: Tensor, *, start: int, segment: Tensor | None = None, all_layers: bool = False
    ) -> QueryMemory:
        """Encode a query on its own."""
        nobody, keys_values = self.no_query, list[KeyValue]()
        states = self._run(self.embed(ids, segment), None, nobody, range(self.num_layers), keys_values=keys_values)
        states[-1] = self.final_norm(states[-1])
        seen = (*(None,) * start, *keys_values[start:])
        return QueryMemory(tuple(states if all_layers else states[-1:]), seen, ids.shape[1], nobody.tables)

    def encode_candidates(
        self,
        rows: TokenRows,
        memory: QueryMemory,
        *,
        key_bias: Tensor | None = None,
        segment: Tensor | None = None,
        start: int = 0,
        all_layers: bool = False,
        read_tokens: int | None = None,
        cached: LayerStates | None = None,
    ) -> tuple[Tensor, ...]:
        """Encode candidates, each against itself and the query."""
        if cached is None:
            first, states = 0, self.embed(rows.ids, segment, start)
        else:
            assert not all_layers, "lower layers are not kept"
            first, states = cached.layer, cached.states.to(memory.layers[-1].dtype)
        found = self._run(
            states,
            rows.mask if rows.is_padded else None,
            memory,
            range(first, self.num_layers),
            key_bias=key_bias,
            read_tokens=read_tokens,
        )
        found[-1] = self.final_norm(found[-1])
        return tuple(found if all_layers else found[-1:])

    def encode_below(self, rows: TokenRows, *, layer: int, segment: Tensor | None = None, start: int = 0) -> Tensor:
        """Run candidates through the query-independent layers below `layer`.

        Args:
            rows: One candidate per row.
            layer: End of the run, at most the first layer in which candidates see the query.
            segment: FloatTensor [hidden], added to the word embeddings; None for none.
            start: Position of each candidate's first token, if positions are absolute.

        Returns:
            Input of `layer`, FloatTensor [num_rows, seq_len, hidden].
        """
        states, mask = self.embed(rows.ids, segment, start), rows.mask if rows.is_padded else None
        return self._run(states, mask, self.no_query, range(layer))[-1]

    def _run(
        self,
        states: Tensor,
        token_mask: Tensor | None,
        memory: QueryMemory,
        layers: range,
        *,
        key_bias: Tensor | None = None,
        read_tokens: int | None = None,
        keys_values: list[KeyValue] | None = None,
    ) -> list[Tensor]:
        """Input of the first layer and output of each, for rows that see the query and themselves.

        The rows' own keys and values are appended to `keys_values`, if given.
        """
        found, num_tokens = [states], states.shape[1]
        is_short = self.scores_are_products and num_tokens <= _SHORT_ROW and states.device.type == "cpu"
        for layer, sight in self._sights(states, token_mask, memory, layers, key_bias, read_tokens):
            module, rows, shared = self.layers[layer], len(sight.query_positions), sight.shared
            query, key, value = self.project(module, states, sight.key_positions[-num_tokens:], rows)
            if keys_values is not None:
                keys_values.append((key, value))
            if shared is not None and is_short:
                context = attend_beside(query, shared, (key, value), sight.mask)
            else:
                if shared is not None:
                    key = torch.cat([shared[0].expand(len(key), -1, -1, -1), key], dim=2)
                    value = torch.cat([shared[1].expand(len(value), -1, -1, -1), value], dim=2)
                context = self.attend(query, key, value, sight)
            states = self.finish(module, states[:, :rows], context.transpose(1, 2).flatten(2))
            found.append(states)
        return found

    def _sights(
        self,
        states: Tensor,
        token_mask: Tensor | None,
        memory: QueryMemory,
        layers: range,
        key_bias: Tensor | None,
        read_tokens: int | None,
    ) -> list[tuple[int, Sight]]:
        """Attention view of each layer; in the network's last one only the tokens to be read attend."""
        num_tokens, shared_tokens, device = states.shape[1], memory.num_tokens, states.device
        offset = 0 if self.positions_are_absolute else shared_tokens
        own = torch.arange(offset, offset + num_tokens, device=device)
        both = torch.cat([torch.arange(shared_tokens, device=device), own])
        own_mask = None if token_mask is None else token_mask[:, None, None, :]
        both_mask = None if own_mask is None else functional.pad(own_mask, (shared_tokens, 0), value=True)
        sights = []
        for layer in layers:
            shared, looking = memory.keys_values[layer], own
            if layer == self.num_layers - 1:
                looking = own[:read_tokens]
            seen, mask = (own, own_mask) if shared is None else (both, both_mask)
            if (reach := self.reach[layer]) is not None:
                near = (looking[:, None] - seen[None, :]).abs() <= reach
                mask = near if mask is None else near & mask
            if shared is not None and key_bias is not None:
                bias = key_bias[layer, :, None].expand(-1, shared_tokens).to(states.dtype)
                added = functional.pad(bias, (0, num_tokens))[None, :, None, :]
                mask = added if mask is None else added.masked_fill(~mask, -torch.inf)
            sights.append((layer, Sight(shared, looking, seen, mask, memory.tables[layer])))
        return sights

    def encode_windows(
        self, tokens: TokenRows, *, embeddings: Tensor | None = None, all_layers: bool = False
    ) -> tuple[Tensor, ...]:
        """Run full attention over padded rows."""
        return run_backbone(self.backbone, tokens, embeddings=embeddings, all_layers=all_layers)


def stock_embeddings(backbone: Any) -> Callable[..., Tensor]:  # Any: a model of transformers, untyped there
    """Embeddings of a stock backbone, with the signature of `BlockRunner.embed`."""

    def embed(
        ids: Tensor,
        segment: Tensor | None = None,
        start: int = 0,
        *,
        positions: Tensor | None = None,  # noqa: ARG001 - relative ones enter in the layers
    ) -> Tensor:
        assert start == 0, "positions are relative"
        if segment is None:
            states: Tensor = backbone.embeddings(input_ids=ids)
        else:
            states = backbone.embeddings(inputs_embeds=backbone.get_input_embeddings()(ids) + segment)
        return states

    return embed
