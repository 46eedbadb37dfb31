"""BERT as a plain module with the parameter names of transformers' `BertModel`, and its block runner.

Our own code because transformers' modelling code takes longer to import than torch (docs/decisions/0018-threads.md).
Same-named layers keep their places, so checkpoints, block runners and exports work unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_rerank.model.backbones.packable import PackableRunner

ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    "gelu": nn.GELU,
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


@dataclass(kw_only=True)
class BertConfig:
    """BERT settings, with transformers' names and defaults."""

    model_type: str = "bert"
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> BertConfig | None:  # Any: JSON
        """Read a checked config; None for another architecture or a rare activation, which transformers handles."""
        if values["model_type"] != "bert" or values.get("hidden_act", cls.hidden_act) not in ACTIVATIONS:
            return None
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})


class BertStates(NamedTuple):
    """Output of `Bert`.

    Attributes:
        last_hidden_state: FloatTensor [num_rows, seq_len, hidden].
        hidden_states: Embedding output and every layer's output.
    """

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...]


class Bert(nn.Module):
    """BERT network; pooler weights are kept for checkpoints that have them, and unused.

    Args:
        config: Network sizes.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        # Containers of transformers' naming: `layer`, and `dense`.
        self.encoder, self.pooler = nn.Module(), nn.Module()
        self.encoder.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def get_input_embeddings(self) -> nn.Module:
        """Word embedding table."""
        return self.embeddings.word_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool = False,
        return_dict: bool = True,  # noqa: ARG002 - as transformers' models are called
    ) -> BertStates:
        """Run full attention over padded rows.

        Args:
            input_ids: LongTensor [num_rows, seq_len]; None with embeddings.
            attention_mask: LongTensor [num_rows, seq_len], 1 on tokens; or an additive FloatTensor that broadcasts to
                [num_rows, num_heads, seq_len, seq_len]; None for no mask.
            inputs_embeds: FloatTensor [num_rows, seq_len, hidden]. Word embeddings in place of ids.
            output_hidden_states: Keep every layer's output.
            return_dict: Ignored.

        Returns:
            Hidden states.
        """
        states = self.embeddings(input_ids, words=inputs_embeds)
        if attention_mask is not None and attention_mask.dim() == 2:
            attention_mask = attention_mask.bool()[:, None, None]
        kept = [states]
        for layer in cast("nn.ModuleList", self.encoder.layer):
            states = layer(states, attention_mask)
            if output_hidden_states:
                kept.append(states)
        return BertStates(states, tuple(kept) if output_hidden_states else ())


class _Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        ids: Tensor | None,
        segment: Tensor | None = None,
        start: int = 0,
        *,
        words: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        states: Tensor = self.word_embeddings(ids) if words is None else words
        if segment is not None:
            states = states + segment
        # BERT's first segment only, summed in transformers' order, which affects the last bits.
        table = self.position_embeddings
        placed = table.weight[start : start + states.shape[1]] if positions is None else table(positions)
        normed: Tensor = self.dropout(self.LayerNorm(states + self.token_type_embeddings.weight[0] + placed))
        return normed


class _SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = width // config.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        heads = (self.num_attention_heads, self.attention_head_size)
        query, key, value = (
            projection(states).unflatten(-1, heads).transpose(1, 2) for projection in (self.query, self.key, self.value)
        )
        dropout = self.dropout.p if self.training else 0.0
        context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """Projection, residual and normalisation."""

    def __init__(self, config: BertConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)


class _Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        # Containers of transformers' naming: `self` and `output`, and `dense`.
        self.attention, self.intermediate = nn.Module(), nn.Module()
        self.attention.self = _SelfAttention(config)
        self.attention.output = _Output(config, config.hidden_size)
        self.intermediate.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate.intermediate_act_fn = ACTIVATIONS[config.hidden_act]()
        self.output = _Output(config, config.intermediate_size)

    def forward(self, states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        context: Tensor = self.attention.self(states, attention_mask)  # type: ignore[operator] # a module
        return BertBlocks.finish(self, states, context)


class BertBlocks(PackableRunner):
    """Block runner of a `Bert`: absolute positions, plain attention."""

    positions_are_absolute = True  # candidates restart at 0, so layers below the query's start are query-independent

    @staticmethod
    def layers_of(backbone: Any) -> Any:  # Any: see `BlockRunner`
        """Transformer layers, in order."""
        return backbone.encoder.layer

    def embed_words(self, words: Tensor) -> Tensor:
        """Embedding output of given word embeddings."""
        return self.embed(None, words=words)

    def project(self, layer: Any, states: Tensor, positions: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG002 - positions are in the embeddings
        """Queries, keys and values of a layer."""
        attention = layer.attention.self
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

    def prepare_packed(self) -> None:
        """Put each layer's query, key and value weights side by side in memory, for one product."""
        for layer in self.layers:
            layer.attention.self.joined = _side_by_side(layer.attention.self)

    def project_packed(
        self,
        layer: Any,
        states: Tensor,
        index: Tensor | None,
        tables: Any,  # noqa: ARG002 - positions are in the embeddings
    ) -> tuple[Tensor, Tensor]:
        """Queries, keys and values of packed tokens."""
        attention = layer.attention.self
        (weight, bias), heads = attention.joined, (attention.num_attention_heads, attention.attention_head_size)
        if index is None:
            both = functional.linear(states, weight, bias).view(len(states), 3, *heads)
            return both[:, 0], both[:, 1:]
        width = states.shape[-1]
        query = functional.linear(states.index_select(0, index), weight[:width], bias[:width])
        key_value = functional.linear(states, weight[width:], bias[width:])
        return query.view(len(index), *heads), key_value.view(len(states), 2, *heads)

    @staticmethod
    def finish(layer: Any, states: Tensor, context: Tensor) -> Tensor:
        """Output projection, residual and feed-forward."""
        output, inner, last = layer.attention.output, layer.intermediate, layer.output
        attended = output.LayerNorm(output.dropout(output.dense(context)) + states)
        wide = inner.intermediate_act_fn(inner.dense(attended))
        finished: Tensor = last.LayerNorm(last.dropout(last.dense(wide)) + attended)
        return finished


def _side_by_side(attention: _SelfAttention) -> tuple[Tensor, Tensor]:
    """Joint weight [3 * hidden, hidden] and bias [3 * hidden], of which the three projections hold views."""
    parts = (attention.query, attention.key, attention.value)
    joined = []
    for name in ("weight", "bias"):
        whole = torch.cat([getattr(part, name).detach() for part in parts])
        for part, view in zip(parts, whole.chunk(3), strict=True):
            getattr(part, name).data = view
        joined.append(whole)
    return joined[0], joined[1]
