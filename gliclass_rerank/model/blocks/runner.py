"""Runs a stock backbone in blocks: the query first, then candidates against the query's keys and values.

Each layer is taken apart into `project` (queries, keys, values), `attend` and `finish` (output, residual,
feed-forward), so that a candidate's attention can run over [query keys; own keys]. A candidate never sees another one,
and its positions restart, so its states do not depend on order, batch or companions (Set-Encoder, arXiv 2404.06912,
shows that this costs no quality when trained so). Below `start` candidates do not see the query either: those states
could be computed before any query is known.

One subclass per backbone family lives beside this module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_rerank.model.batch import LayerStates, TokenRows
from gliclass_rerank.model.blocks.attention import attend_beside
from gliclass_rerank.model.blocks.interface import LayerRunner, QueryMemory
from gliclass_rerank.model.encoder import run_backbone

# Up to this many tokens a row `attend_beside` is quicker on a CPU, whatever the query's length; from 32 on it is not.
_SHORT_ROW: Final = 16


class BlockRunner(LayerRunner, ABC):
    """Takes one backbone family apart; holds no weights of its own."""

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone

    @property
    @abstractmethod
    def layers(self) -> Any:  # Any: modules of a transformers model, untyped there
        """The transformer layers, in order."""

    @property
    def num_layers(self) -> int:
        """Number of transformer layers."""
        return len(self.layers)

    @property
    @abstractmethod
    def positions_are_absolute(self) -> bool:
        """Whether candidates restart at position 0 (True) or go on after the query (False)."""

    @property
    def scores_are_products(self) -> bool:
        """Whether attention scores are products of queries and keys alone, once `project` has made those."""
        return True

    def embed(self, ids: Tensor, embeddings: Tensor | None, start: int = 0) -> Tensor:
        """Embedding output.

        Args:
            ids: LongTensor [num_rows, seq_len].
            embeddings: FloatTensor [num_rows, seq_len, hidden] that replaces the word embeddings of `ids`, or None.
            start: The first token's position; above 0 only where positions are absolute.

        Returns:
            FloatTensor [num_rows, seq_len, hidden]. Padding needs no mask here, because it is never attended to.
        """
        module: Any = self.backbone.embeddings  # Any: see layers
        placed = {}
        if start:
            placed["position_ids"] = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
        states: Tensor = module(input_ids=None if embeddings is not None else ids, inputs_embeds=embeddings, **placed)
        return states

    @abstractmethod
    def project(self, layer: int, states: Tensor, positions: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the first `rows` tokens, keys and values of all: [num_rows, num_heads, tokens, head_dim] each."""

    @abstractmethod
    def finish(self, layer: int, states: Tensor, context: Tensor) -> Tensor:
        """From attention output [num_rows, seq_len, hidden] to the layer's output."""

    def close(self, states: Tensor) -> Tensor:
        """What the backbone does after its last layer."""
        return states

    def tables(self) -> tuple[tuple[Tensor, ...], ...]:
        """Per-layer tensors that depend on weights only, to be shared by all blocks of a forward pass."""
        return ((),) * self.num_layers

    def visible(self, layer: int, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:  # noqa: ARG002
        """BoolTensor [num_queries, num_keys] of what a layer may see by distance; None = everything."""
        return None

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        *,
        query_positions: Tensor,  # noqa: ARG002 - for backbones whose attention scores depend on distance
        key_positions: Tensor,  # noqa: ARG002
        tables: tuple[Tensor, ...],  # noqa: ARG002
    ) -> Tensor:
        """Attention output, [num_rows, num_heads, num_queries, head_dim].

        `mask` broadcasts to the scores' shape: True where a key may be seen, or numbers that are added to the scores.
        """
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    def encode_query(
        self, ids: Tensor, *, start: int, embeddings: Tensor | None = None, all_layers: bool = False
    ) -> QueryMemory:
        """Encode a query on its own; see `LayerRunner.encode_query`."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        states = self.embed(ids, embeddings)
        layers, keys_values, tables = [states], [], self.tables()
        for layer in range(self.num_layers):
            query, key, value = self.project(layer, states, positions, states.shape[1])
            mask = self.visible(layer, positions, positions)
            context = self.attend(
                query,
                key,
                value,
                mask,
                query_positions=positions,
                key_positions=positions,
                tables=tables[layer],
            )
            states = self.finish(layer, states, context.transpose(1, 2).flatten(2))
            keys_values.append((key, value) if layer >= start else None)
            layers.append(states)
        return QueryMemory(self._kept(layers, all_layers), tuple(keys_values), ids.shape[1], tables)

    def encode_candidates(
        self,
        ids: Tensor,
        token_mask: Tensor | None,
        memory: QueryMemory,
        *,
        key_bias: Tensor | None = None,
        embeddings: Tensor | None = None,
        start: int = 0,
        all_layers: bool = False,
        read_tokens: int | None = None,
        known: LayerStates | None = None,
    ) -> tuple[Tensor, ...]:
        """Encode candidates, each against itself and the query; see `LayerRunner.encode_candidates`."""
        first = 0
        if known is None:
            states = self.embed(ids, embeddings, start)
        else:
            assert not all_layers, "lower layers are not kept"
            first, states = known.layer, known.states.to(memory.layers[-1].dtype)
        layers = self._run_candidates(
            states,
            token_mask,
            memory,
            range(first, self.num_layers),
            key_bias=key_bias,
            read_tokens=read_tokens,
        )
        return self._kept(layers, all_layers)

    def encode_below(
        self,
        ids: Tensor,
        token_mask: Tensor | None,
        *,
        layer: int,
        embeddings: Tensor | None = None,
        start: int = 0,
    ) -> Tensor:
        """Run candidates through the layers below one, in which they do not see the query.

        Args:
            ids: As for `encode_candidates`.
            token_mask: As for `encode_candidates`.
            layer: Where to stop; at most the first layer in which candidates see the query.
            embeddings: As for `encode_candidates`.
            start: As for `encode_candidates`.

        Returns:
            FloatTensor [num_rows, seq_len, hidden]. The input of `layer`, whatever the query.
        """
        nobody = QueryMemory(layers=(), keys_values=(None,) * self.num_layers, num_tokens=0, tables=self.tables())
        return self._run_candidates(self.embed(ids, embeddings, start), token_mask, nobody, range(layer))[-1]

    def _run_candidates(
        self,
        states: Tensor,
        token_mask: Tensor | None,
        memory: QueryMemory,
        layers: range,
        *,
        key_bias: Tensor | None = None,
        read_tokens: int | None = None,
    ) -> list[Tensor]:
        """The input of the first of the layers, and the output of each."""
        num_tokens, device = states.shape[1], states.device
        offset = 0 if self.positions_are_absolute else memory.num_tokens
        own = torch.arange(offset, offset + num_tokens, device=device)
        both = torch.cat([torch.arange(memory.num_tokens, device=device), own])
        own_mask, both_mask = _key_masks(token_mask, memory.num_tokens)
        found = [states]
        for layer in layers:
            shared = memory.keys_values[layer]
            is_last = layer == self.num_layers - 1
            rows = min(read_tokens or num_tokens, num_tokens) if is_last else num_tokens
            query, key, value = self.project(layer, states, own, rows)
            positions, mask = (own, own_mask) if shared is None else (both, both_mask)
            visible = self.visible(layer, own[:rows], positions)
            if visible is not None:
                mask = visible if mask is None else visible & mask
            if shared is not None and key_bias is not None:
                bias = functional.pad(key_bias[layer, :, None].expand(-1, memory.num_tokens), (0, num_tokens))
                mask = _biased(bias.to(query.dtype), mask)
            if shared is not None and self.scores_are_products and num_tokens <= _SHORT_ROW and device.type == "cpu":
                context = attend_beside(query, shared, (key, value), mask)
            else:
                if shared is not None:
                    key, value = _prepend(shared[0], key), _prepend(shared[1], value)
                context = self.attend(
                    query,
                    key,
                    value,
                    mask,
                    query_positions=own[:rows],
                    key_positions=positions,
                    tables=memory.tables[layer],
                )
            states = self.finish(layer, states[:, :rows], context.transpose(1, 2).flatten(2))
            found.append(states)
        return found

    def encode_windows(
        self, tokens: TokenRows, *, embeddings: Tensor | None = None, all_layers: bool = False
    ) -> tuple[Tensor, ...]:
        """Run full attention over padded rows; see `run_backbone`."""
        return run_backbone(self.backbone, tokens, embeddings=embeddings, all_layers=all_layers)

    def _kept(self, layers: list[Tensor], all_layers: bool) -> tuple[Tensor, ...]:
        last = self.close(layers[-1])
        return (*layers[:-1], last) if all_layers else (last,)


def _key_masks(token_mask: Tensor | None, query_tokens: int) -> tuple[Tensor | None, Tensor | None]:
    if token_mask is None:
        return None, None
    own = token_mask[:, None, None, :]
    return own, functional.pad(own, (query_tokens, 0), value=True)


def _biased(bias: Tensor, mask: Tensor | None) -> Tensor:
    """A bias a head and key, [num_heads, num_keys], that is minus infinity where `mask` is False."""
    added = bias[None, :, None, :]
    return added if mask is None else added.masked_fill(~mask, -torch.inf)


def _prepend(shared: Tensor, own: Tensor) -> Tensor:
    return torch.cat([shared.expand(own.shape[0], -1, -1, -1), own], dim=2)
