"""The stock transformers backbone made to run blocks: one row [query; passage], masks and positions given by hand.

Nothing of our block code is used, so that it can be compared with this.
"""

import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

# Other kernels and another order of summation move the last bits of float32. The last states are normalised, of order
# 1; ModernBERT's inner ones grow from layer to layer, so the bound is relative to the largest state if that is above 1.
TOLERANCE = 1e-5


def assert_same(own, theirs):
    assert own.shape == theirs.shape
    assert (own - theirs).abs().max() <= TOLERANCE * max(1.0, theirs.abs().max().item())


def random_ids(*shape, seed=3):
    return torch.randint(5, 53, shape, generator=torch.Generator().manual_seed(seed))


def block_mask(query_len, passage_len, *, sees_query):
    """True where a token of [query; passage] may look."""
    is_passage = torch.arange(query_len + passage_len) >= query_len
    own = is_passage[:, None] == is_passage[None, :]
    return own | (is_passage[:, None] & ~is_passage[None, :]) if sees_query else own


def additive(mask):
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)[None, None]


def stock_states(backbone, model, query, ids, start):
    """The stock model over one whole row [query; passage] with a block mask; layers below `start` hide the query."""
    query_len, passage_len = query.shape[1], ids.shape[1]
    offset = 0 if backbone == "bert" else query_len
    positions = torch.cat([torch.arange(query_len), torch.arange(offset, offset + passage_len)])
    distance = positions[:, None] - positions[None, :]
    whole = torch.cat([query, ids], dim=1)
    layers = model.layers if backbone == "modernbert" else model.encoder.layer
    masks = [block_mask(query_len, passage_len, sees_query=layer >= start) for layer in range(len(layers))]
    if backbone == "modernbert":
        local = distance.abs() <= model.config.local_attention // 2
        masks = [
            mask & local if layer.attention_type == "sliding_attention" else mask
            for layer, mask in zip(layers, masks, strict=True)
        ]
    given = [mask[None, None] if backbone == "deberta-v2" else additive(mask) for mask in masks]
    hooks = [
        layer.register_forward_pre_hook(_with_mask(mask), with_kwargs=True)
        for layer, mask in zip(layers, given, strict=True)
    ]
    try:
        if backbone == "deberta-v2":
            restarted = torch.cat([torch.arange(query_len), torch.arange(passage_len)])
            return _deberta_states(model, whole, masks[-1], distance, restarted)
        if backbone == "bert":
            states = _bert_embeddings(model, whole, positions)
            for layer, mask in zip(layers, given, strict=True):
                states = layer(states, mask)
            return states
        mask = dict.fromkeys(model.config.layer_types) if backbone == "modernbert" else given[-1]
        return model(whole, attention_mask=mask, position_ids=positions[None]).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()


def _deberta_states(model, ids, mask, distance, positions):
    encoder = model.encoder
    if encoder.relative_attention and encoder.position_buckets > 0:
        distance = make_log_bucket_position(distance, encoder.position_buckets, encoder.max_relative_positions).long()
    # Absolute positions, if the config adds them, restart at 0 while distances go on after the query.
    states = model.embeddings(ids, position_ids=positions[None], mask=torch.ones_like(ids))
    return encoder(states, mask[None], relative_pos=distance[None]).last_hidden_state


def _with_mask(mask):
    def replace(module, args, kwargs):
        if "attention_mask" in kwargs:
            return args, {**kwargs, "attention_mask": mask}
        return (args[0], mask, *args[2:]), kwargs

    return replace


def _bert_embeddings(model, ids, positions):
    tables = model.embeddings
    words = tables.word_embeddings(ids) + tables.token_type_embeddings.weight[0]
    return tables.LayerNorm(words + tables.position_embeddings(positions))
