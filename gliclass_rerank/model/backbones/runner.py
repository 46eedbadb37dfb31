"""Block attention over a stock backbone: the query first, then candidates against the query's keys and values.

Each layer is taken apart into `project` (queries, keys, values), `attend` and `finish` (output, residual,
feed-forward), so that a candidate's attention can run over [query keys; own keys]. A candidate never sees another one,
and its positions restart, so its states do not depend on order, batch or companions (Set-Encoder, arXiv 2404.06912,
shows that this costs no quality when trained so). Below `start` candidates do not see the query either: those states
could be computed before any query is known.

One subclass per backbone family lives beside this module.
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

# Up to this many tokens a row `attend_beside` is quicker on a CPU, whatever the query's length; from 32 on it is not.
_SHORT_ROW: Final = 16


@dataclass(frozen=True)
class Sight:
    """What the tokens of rows see in one layer.

    Attributes:
        shared: The query's keys and values, FloatTensor [1, num_heads, query_len, head_dim] each; None if not seen.
        query_positions: LongTensor [num_queries]. Positions of the tokens that look.
        key_positions: LongTensor [num_keys]. Of the keys: the query's, if they are seen, and the row's own.
        mask: Broadcasts to the scores' shape: True where a key may be seen, or numbers that are added to the scores;
            None for everything.
        table: Tensors that depend on the layer's weights only, see `QueryMemory`.
    """

    shared: KeyValue | None
    query_positions: Tensor
    key_positions: Tensor
    mask: Tensor | None
    table: tuple[Tensor, ...]


class BlockRunner(LayerRunner, ABC):
    """Takes one backbone family apart; holds no weights of its own.

    Args:
        backbone: A backbone made by `build_backbone`.

    Attributes:
        layers: The transformer layers, in order.
        num_layers: How many there are.
        embed: Embedding output FloatTensor [num_rows, seq_len, hidden] of ids, LongTensor [num_rows, seq_len], of a
            segment, FloatTensor [hidden] that is added to the word embeddings or None, and of the first token's
            position, above 0 only where positions are absolute. Padding needs no mask, because it is never attended to.
        final_norm: Runs after the last layer.
        reach: For each layer how far to either side it sees; None for everything.
    """

    # Whether candidates restart at position 0 or go on after the query.
    positions_are_absolute: ClassVar[bool]
    # Whether attention scores are products of queries and keys alone, once `project` has made those.
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
        """The transformer layers, in order."""

    def embed_words(self, words: Tensor) -> Tensor:
        """Embedding output of given word embeddings, FloatTensor [num_rows, seq_len, hidden] to the same shape."""
        module: Any = self.backbone.embeddings  # Any: a module of transformers, untyped there
        states: Tensor = module(inputs_embeds=words)
        return states

    @abstractmethod
    def project(self, layer: Any, states: Tensor, positions: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the first `rows` tokens, keys and values of all: [num_rows, num_heads, tokens, head_dim] each."""

    @abstractmethod
    def finish(self, layer: Any, states: Tensor, context: Tensor) -> Tensor:
        """From attention output [num_rows, seq_len, hidden] to the layer's output."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight) -> Tensor:
        """Attention output of a backbone whose scores are more than products.

        Args:
            query: FloatTensor [num_rows, num_heads, num_queries, head_dim].
            key: FloatTensor [num_rows, num_heads, num_keys, head_dim].
            value: FloatTensor [num_rows, num_heads, num_keys, head_dim].
            sight: Mask, positions and tables.

        Returns:
            FloatTensor [num_rows, num_heads, num_queries, head_dim].
        """
        raise NotImplementedError

    @cached_property
    def no_query(self) -> QueryMemory:
        """The memory of rows that see no query."""
        return QueryMemory((), (None,) * self.num_layers, 0, ((),) * self.num_layers)

    def encode_query(
        self, ids: Tensor, *, start: int, segment: Tensor | None = None, all_layers: bool = False
    ) -> QueryMemory:
        """Encode a query on its own; see `LayerRunner.encode_query`."""
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
        """Encode candidates, each against itself and the query; see `LayerRunner.encode_candidates`."""
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
        """Run candidates through the layers below one, in which they do not see the query.

        Args:
            rows: One candidate a row.
            layer: Where to stop; at most the first layer in which candidates see the query.
            segment: As for `encode_candidates`.
            start: As for `encode_candidates`.

        Returns:
            FloatTensor [num_rows, seq_len, hidden]. The input of `layer`, whatever the query.
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
        """The input of the first of the layers and the output of each, for rows that see the query and themselves.

        The rows' own keys and values are appended to `keys_values`, if it is given.
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
                context = (
                    functional.scaled_dot_product_attention(query, key, value, attn_mask=sight.mask)
                    if self.scores_are_products
                    else self.attend(query, key, value, sight)
                )
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
        """What is seen in each of the layers; in the last one of all only the tokens that are read look."""
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
        """Run full attention over padded rows; see `run_backbone`."""
        return run_backbone(self.backbone, tokens, embeddings=embeddings, all_layers=all_layers)


def stock_embeddings(backbone: Any) -> Callable[..., Tensor]:  # Any: a model of transformers, untyped there
    """The embeddings of a stock backbone, called as `BlockRunner.embed`."""

    def embed(ids: Tensor, segment: Tensor | None = None, start: int = 0) -> Tensor:
        assert start == 0, "positions are relative"
        if segment is None:
            states: Tensor = backbone.embeddings(input_ids=ids)
        else:
            states = backbone.embeddings(inputs_embeds=backbone.get_input_embeddings()(ids) + segment)
        return states

    return embed
