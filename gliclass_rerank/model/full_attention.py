"""Full attention: a stock backbone over whole padded sequences."""

from __future__ import annotations

from torch import Tensor, nn

from gliclass_rerank.model.batch import TokenRows


def token_embeddings(backbone: nn.Module, ids: Tensor) -> Tensor:
    """Look up word embeddings, before positions and normalisation.

    Args:
        backbone: A backbone made by `build_backbone`.
        ids: LongTensor [num_rows, seq_len].

    Returns:
        FloatTensor [num_rows, seq_len, hidden].
    """
    table = backbone.get_input_embeddings()  # type: ignore[operator] # a transformers model behind nn.Module
    states: Tensor = table(ids)
    return states


def run_backbone(
    backbone: nn.Module, tokens: TokenRows, *, embeddings: Tensor | None = None, all_layers: bool = False
) -> tuple[Tensor, ...]:
    """Run full attention over padded rows.

    Args:
        backbone: A backbone made by `build_backbone`.
        tokens: The rows.
        embeddings: FloatTensor [num_rows, seq_len, hidden]. Word embeddings to use in place of the ids.
        all_layers: Whether to return every layer.

    Returns:
        FloatTensor [num_rows, seq_len, hidden] each: the embedding output and every layer's output if `all_layers`,
        else only the last layer's.
    """
    output = backbone(
        input_ids=tokens.ids if embeddings is None else None,
        inputs_embeds=embeddings,
        # Without padding no mask is given: the result is the same and the fastest attention kernel can be chosen.
        attention_mask=tokens.mask.long() if tokens.is_padded else None,
        output_hidden_states=all_layers,
        return_dict=True,
    )
    return tuple(output.hidden_states) if all_layers else (output.last_hidden_state,)
