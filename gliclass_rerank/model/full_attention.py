"""Full attention: a stock backbone over padded sequences."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gliclass_rerank.model.batch import TokenRows


def token_embeddings(backbone: nn.Module, ids: Tensor) -> Tensor:
    """Look up word embeddings, before positions and normalisation: LongTensor [num_rows, seq_len] to [..., hidden]."""
    table = backbone.get_input_embeddings()  # type: ignore[operator] # a transformers model behind nn.Module
    states: Tensor = table(ids)
    return states


def run_backbone(
    backbone: nn.Module, tokens: TokenRows, *, embeddings: Tensor | None = None, all_layers: bool = False
) -> tuple[Tensor, ...]:
    """Run full attention over padded rows.

    Args:
        backbone: Backbone made by `build_backbone`.
        tokens: Padded rows.
        embeddings: FloatTensor [num_rows, seq_len, hidden]. Word embeddings in place of the ids.
        all_layers: Return embedding output and every layer's output, not only the last layer's.

    Returns:
        FloatTensor [num_rows, seq_len, hidden] each.
    """
    output = backbone(
        input_ids=tokens.ids if embeddings is None else None,
        inputs_embeds=embeddings,
        # Without padding no mask is given: same result, and the fastest attention kernel applies. DeBERTa, which has
        # one kernel, would look for padding in the ids, and that waits for the device.
        attention_mask=tokens.mask.long() if tokens.is_padded or _is_deberta(backbone) else None,
        output_hidden_states=all_layers,
        return_dict=True,
    )
    return tuple(output.hidden_states) if all_layers else (output.last_hidden_state,)


def _is_deberta(backbone: nn.Module) -> bool:
    config: Any = backbone.config  # Any: of transformers, untyped there
    return bool(config.model_type == "deberta-v2")
