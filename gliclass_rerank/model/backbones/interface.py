"""What a network asks of whatever runs its backbone's layers: torch in blocks, or another runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gliclass_rerank.model.batch import LayerStates, TokenRows

KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class QueryMemory:
    """What candidates need of an encoded query.

    Attributes:
        layers: FloatTensor [1, query_len, hidden] each: the states asked for, see `LayerRunner.encode_query`.
        keys_values: For each layer its keys and values, FloatTensor [1, num_heads, query_len, head_dim] each, or None
            where candidates do not see the query.
        num_tokens: Length of the query's sequence.
        tables: Per-layer tensors that depend on weights only, made once per forward pass; may be empty.
    """

    layers: tuple[Tensor, ...]
    keys_values: tuple[KeyValue | None, ...]
    num_tokens: int
    tables: Sequence[tuple[Tensor, ...]]


class LayerRunner(Protocol):
    """Runs a backbone under both attention plans."""

    def encode_query(
        self, ids: Tensor, *, start: int, segment: Tensor | None = None, all_layers: bool = False
    ) -> QueryMemory:
        """Encode a query on its own.

        Args:
            ids: LongTensor [1, query_len]. No padding.
            start: First layer in which candidates will see the query.
            segment: FloatTensor [hidden], added to the word embeddings; None for nothing.
            all_layers: Keep the embedding output and every layer's output instead of the last layer's only.

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
            rows: One candidate a row.
            memory: The encoded query.
            key_bias: FloatTensor [num_layers, num_heads], added to the attention scores of the query's tokens; None for
                no bias.
            segment: As in `encode_query`.
            start: Position of each candidate's first token where positions are absolute; elsewhere it follows the
                query's last one.
            all_layers: As in `encode_query`.
            read_tokens: How many of each candidate's first tokens will be read from the last layer; None for all. The
                others still give keys and values there, but their output is never computed: a seventh of a
                six-layer network's work.
            cached: What `BlockRunner.encode_below` gave for these candidates: embeddings and lower layers are left out.
                Not together with `all_layers`.

        Returns:
            FloatTensor [num_rows, seq_len, hidden] each: the states asked for; the last layer's hold the first
            `read_tokens` tokens only, if that layer is computed.
        """
        ...

    def encode_windows(
        self, tokens: TokenRows, *, embeddings: Tensor | None = None, all_layers: bool = False
    ) -> tuple[Tensor, ...]:
        """Run full attention over padded rows; see `run_backbone`."""
        ...
