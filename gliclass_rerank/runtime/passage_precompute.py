"""Which checkpoints can have a passage cache, what its states depend on, and computing them."""

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

# Changes with what a network computes from equal weights.
_VERSION: Final = 1
# Passages that are sorted by length together: enough to fill groups, few enough to hold their tokens.
_SORTED_AT_ONCE: Final = 1024


def uncacheable_reason(config: ModelConfig, plan: AttentionPlan | None) -> str | None:
    """Why a checkpoint cannot have a passage cache.

    Args:
        config: The checkpoint's.
        plan: The attention plan in use; None for bi-encoders.

    Returns:
        One sentence, or None if it can.
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
    """Digest of what passages' states at the input of a layer depend on, beside their token ids.

    That is all weights of the backbone but those of this layer and the ones above it, and how they are used.

    Args:
        model: The network, in float32, because a conversion would change it.
        layer: The layer.

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
    """Open the cache of a checkpoint that `uncacheable_reason` accepts.

    Args:
        folder: What `precompute` wrote.
        model: The network, in float32.

    Returns:
        The cache.

    Raises:
        ConfigError: It was computed by another checkpoint.
        DataError: There is no cache, or a broken one.
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
    """Compute passages' states and write them.

    Args:
        blocks: The passages' sequences; equal ones are kept once.
        folder: Must not exist yet.
        model: The network, in float32.
        network: Runs it.
        batch_tokens: Tokens of one forward pass, padding included.
        dtype: How states are kept.
        layer: The layer whose input is kept, at most the first one in which passages see the query.
        on_computed: Called with the number of passages done since the last call.

    Returns:
        What was written.

    Raises:
        ConfigError: An unknown `dtype`.
        DataError: The folder exists, or there is no passage.
        BackendError: The forward pass failed, or gave what cannot be kept.
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
