"""Consistency of a backbone's settings with each other.

transformers builds most contradictory backbones, which then fail or index beyond a table at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from gliclass_rerank.errors import ConfigError

T5_FAMILY: Final = frozenset({"mt5", "t5", "umt5"})
# These count positions from the padding id on, so that many rows of the table are unreachable.
ROBERTA_FAMILY: Final = frozenset({"camembert", "roberta", "xlm-roberta"})


def check_sizes(config: Any) -> None:  # Any: transformers' config classes, and our `BertConfig`
    """Check a backbone's config, defaults filled in, for consistency; a contradiction is a `ConfigError`."""
    for problem in _problems(config):
        raise ConfigError(f"a backbone's {problem} (`encoder_config`)")


def _problems(config: Any) -> Iterator[str]:
    width, heads = config.hidden_size, config.num_attention_heads
    if config.model_type not in T5_FAMILY and width % heads:
        yield f"number of heads must divide its width {width}, got {heads}"
    if (config.pad_token_id or 0) >= config.vocab_size:
        yield f"`pad_token_id` must be below its `vocab_size` {config.vocab_size}, got {config.pad_token_id}"
    yield from _OF_FAMILY.get(config.model_type, _nothing)(config)


def _nothing(config: Any) -> Iterator[str]:  # noqa: ARG001 - one signature for all families
    return iter(())


def _of_roberta(config: Any) -> Iterator[str]:
    if config.max_position_embeddings <= config.pad_token_id + 1:
        yield (
            f"positions start after its `pad_token_id` {config.pad_token_id}, which leaves none of "
            f"{config.max_position_embeddings}"
        )


def _of_deberta(config: Any) -> Iterator[str]:
    width = config.hidden_size
    kernel, groups = getattr(config, "conv_kernel_size", 0), getattr(config, "conv_groups", 1)
    if kernel and not kernel % 2:
        yield f"`conv_kernel_size` must be odd, got {kernel}"
    if width % groups:
        yield f"`conv_groups` must divide its width {width}, got {groups}"
    each = getattr(config, "attention_head_size", width // config.num_attention_heads)
    if each * config.num_attention_heads != width:
        yield f"heads must make up its width {width} together, got an `attention_head_size` of {each}"
    buckets, longest = getattr(config, "position_buckets", -1), config.max_relative_positions
    longest = config.max_position_embeddings if longest < 1 else longest
    # Distances beyond half of the buckets are on a log scale up to the maximum.
    if config.relative_attention and buckets > 0 and not 1 < buckets <= 2 * (longest - 2):
        yield f"`position_buckets` must be from 2 to {2 * (longest - 2)} with {longest} positions, got {buckets}"


def _of_modernbert(config: Any) -> Iterator[str]:
    if config.hidden_size // config.num_attention_heads % 2:
        yield "heads must have an even width, which rotary positions need"
    if len(config.layer_types) != config.num_hidden_layers:
        yield f"`layer_types` must name its {config.num_hidden_layers} layers, got {len(config.layer_types)}"


def _of_t5(config: Any) -> Iterator[str]:
    buckets, longest = config.relative_attention_num_buckets, config.relative_attention_max_distance
    if longest <= buckets // 4:
        yield f"`relative_attention_max_distance` must be above a quarter of its {buckets} buckets, got {longest}"


_OF_FAMILY: Final[Mapping[str, Callable[[Any], Iterator[str]]]] = {
    **dict.fromkeys(ROBERTA_FAMILY, _of_roberta),
    **dict.fromkeys(T5_FAMILY, _of_t5),
    "deberta-v2": _of_deberta,
    "modernbert": _of_modernbert,
}
