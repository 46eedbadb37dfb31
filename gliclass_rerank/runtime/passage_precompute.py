"""Precomputation of passage caches: eligibility, digest and states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.files.digests import weights_digest
from gliclass_rerank.model.batch import length_groups
from gliclass_rerank.model.config import AttentionPlan, ModelConfig
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.runtime.executor import Network
from gliclass_rerank.runtime.passage_cache import CacheMeta, PassageCache, StatesDtype, write_passage_cache
from gliclass_rerank.types import TokenIds

# Version of the network's computation.
_VERSION: Final = 1
# Passages sorted by length at a time: enough to fill batches, few enough for memory.
_SORTED_AT_ONCE: Final = 1024


def uncacheable_reason(config: ModelConfig, plan: AttentionPlan | None) -> str | None:
    """Reason why a checkpoint cannot have a passage cache, in one sentence; None if it can.

    `plan` is the attention plan in use; None for bi-encoders.
    """
    if config.is_bi_encoder:
        return f"a passage cache holds states of a uni-encoder's layers, got {config.architecture_type!r}"
    if plan != "shared_query":
        return (
            f"a passage cache needs the plan 'shared_query', because passages see the query everywhere under {plan!r}"
        )
    if config.query_attention_start == 0:
        return (
            "a passage cache needs layers that do not see the query, and in this checkpoint all do "
            "(`query_attention_start` is 0)"
        )
    if config.reads_all_layers:
        return "a passage cache holds the states of one layer, and the head of this checkpoint reads all"
    return None


def states_digest(model: GLiClass, layer: int) -> str:
    """Digest of everything that passage states depend on beside the token ids.

    It covers the backbone's weights below a layer and their settings.

    Args:
        model: Network in float32; conversion would change the digest.
        layer: Layer whose input is stored.

    Returns:
        64 hexadecimal digits.
    """
    config = model.config
    above = model.blocks.layers[layer:]
    left_out = {id(tensor) for module in above for tensor in module.state_dict(keep_vars=True).values()}
    weights = {
        name: tensor
        for number, encoder in enumerate(model.encoders)
        for name, tensor in encoder.state_dict(keep_vars=True, prefix=f"{number}.").items()
        if id(tensor) not in left_out
    }
    settings = {
        "version": _VERSION,
        "layer": layer,
        "encoder_config": dict(config.encoder_config),
        "candidate_position_start": config.candidate_position_start,
    }
    return weights_digest(weights, settings)


def open_passage_cache(folder: Path, model: GLiClass) -> PassageCache:
    """Open the passage cache of a checkpoint that `uncacheable_reason` accepts.

    Args:
        folder: Folder written by `precompute`.
        model: Network in float32.

    Returns:
        The cache.

    Raises:
        ConfigError: Another checkpoint computed it.
        DataError: The cache is missing or damaged.
    """
    cache = PassageCache(folder)
    layer = cache.meta.layer
    if layer > model.config.query_attention_start or cache.meta.digest != states_digest(model, layer):
        raise ConfigError(
            f"the passage cache `{folder}` was computed by another checkpoint: it does not fit this one's layers "
            f"below {layer}; run `gliclass-rerank precompute` with this checkpoint"
        )
    return cache


def precompute(
    blocks: Iterable[TokenIds],
    folder: Path,
    *,
    model: GLiClass,
    network: Network,
    batch_tokens: int,
    dtype: StatesDtype,
    layer: int,
    on_computed: Callable[[int], object] | None = None,
) -> CacheMeta:
    """Compute passage states and write them.

    Args:
        blocks: Passage sequences; duplicates are stored once.
        folder: New folder.
        model: Network in float32.
        network: Its forward passes.
        batch_tokens: Budget of a forward pass in tokens, padding included.
        dtype: Storage type of the states.
        layer: Layer whose input is stored, at most the first one in which passages see the query.
        on_computed: Callback with the number of passages done since the last call.

    Returns:
        Metadata of the cache.

    Raises:
        ConfigError: Unknown `dtype`.
        DataError: The folder exists, or there is no passage.
        BackendError: The forward pass failed, or its states cannot be stored.
    """
    digest = states_digest(model, layer)
    width = model.config.shape.width
    remaining = iter(blocks)
    with write_passage_cache(folder, layer=layer, digest=digest, dtype=dtype, width=width) as writer:
        while taken := list(islice(remaining, _SORTED_AT_ONCE)):
            new = [ids for ids in dict.fromkeys(taken) if ids not in writer]
            for group in length_groups({index: len(ids) for index, ids in enumerate(new)}, batch_tokens):
                rows: Sequence[TokenIds] = [new[index] for index in group]
                for ids, states in zip(rows, network.candidate_states(rows, layer), strict=True):
                    writer.add(ids, states[: len(ids)])
            if on_computed is not None:
                on_computed(len(taken))
    return PassageCache(folder).meta
