"""Interface between a network and the runtime of its backbone's layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gliclass_rerank.model.batch import LayerStates, TokenRows

KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class QueryMemory:
    """Encoded query, as candidates see it.

    Attributes:
        layers: Requested states, FloatTensor [1, query_len, hidden] each.
        keys_values: Keys and values per layer, FloatTensor [1, num_heads, query_len, head_dim] each; None where
            candidates do not see the query.
        num_tokens: Length of the query's sequence.
        tables: Weight-dependent tensors per layer, made once per forward pass; may be empty.
    """

    layers: tuple[Tensor, ...]
    keys_values: tuple[KeyValue | None, ...]
    num_tokens: int
    tables: Sequence[tuple[Tensor, ...]]


class LayerRunner(Protocol):
    """Runner of a backbone's layers under both attention plans."""

    def encode_query(
        self, ids: Tensor, *, start: int, segment: Tensor | None = None, all_layers: bool = False
    ) -> QueryMemory:
        """Encode a query on its own.

        Args:
            ids: LongTensor [1, query_len]. No padding.
            start: First layer in which candidates see the query.
            segment: FloatTensor [hidden], added to the word embeddings; None for none.
            all_layers: Keep embedding output and every layer's output, not only the last layer's.

        Returns:
            The query's states, and its keys and values from layer `start` on.
        """
        ...

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
        """Encode candidates, each against itself and the query.

        Args:
            rows: One candidate per row.
            memory: Encoded query.
            key_bias: FloatTensor [num_layers, num_heads], added to attention scores on query tokens; None for none.
            segment: FloatTensor [hidden], added to the word embeddings; None for none.
            start: Position of each candidate's first token, if positions are absolute; relative ones follow the
                query's.
            all_layers: Keep embedding output and every layer's output, not only the last layer's.
            read_tokens: Leading tokens whose last-layer output is computed; None for all. Saves a seventh of a
                six-layer network's work.
            cached: Result of `BlockRunner.encode_below` for these candidates, which skips embeddings and lower layers;
                excludes `all_layers`.

        Returns:
            Requested states, FloatTensor [num_rows, seq_len, hidden] each; the last layer's have `read_tokens` tokens
            only.
        """
        ...

    def encode_windows(
        self, tokens: TokenRows, *, embeddings: Tensor | None = None, all_layers: bool = False
    ) -> tuple[Tensor, ...]:
        """Run full attention over padded rows; arguments as for `run_backbone`."""
        ...
