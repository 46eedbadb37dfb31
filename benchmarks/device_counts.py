"""Counts of a forward pass on a GPU, taken on the device "meta", which computes nothing and needs no GPU.

One operation of torch is one kernel launch, fused attention included; views and allocations are none.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gliclass_rerank.model.build import build_model
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.model.cost import optimal_window_tokens
from gliclass_rerank.prompt.planner import TokenPlan
from gliclass_rerank.prompt.windows import pack
from gliclass_rerank.runtime.attention import Attention, batch_tokens_of
from gliclass_rerank.runtime.export import build_executor
from gliclass_rerank.runtime.resolve import resolve_runtime
from gliclass_rerank.types import Blocks, Window

META = torch.device("meta")
_VOCABULARY = 30525
_VIEWS = frozenset(("view", "_unsafe_view", "transpose", "t", "permute", "expand", "unsqueeze", "squeeze", "slice"))
_MORE_VIEWS = frozenset(("select", "split", "split_with_sizes", "chunk", "unbind", "detach", "alias", "as_strided"))
_OTHER_VIEWS = frozenset(("unflatten", "narrow", "diagonal", "T", "_reshape_alias", "expand_as", "view_as", "type_as"))
_NOTHING = frozenset(("lift_fresh", "device", "is_same_size", "empty", "empty_like", "new_empty", "empty_strided"))
_NO_LAUNCH = _VIEWS | _MORE_VIEWS | _OTHER_VIEWS | _NOTHING | {"dropout"}
_READS = frozenset(("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "_unique2"))
MODELS: dict[str, dict[str, Any]] = {
    "MiniLM-L6": {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "max_position_embeddings": 1024,
    },
    "ModernBERT-150M": {
        "model_type": "modernbert",
        "hidden_size": 768,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "intermediate_size": 1152,
        "max_position_embeddings": 7999,
        "global_attn_every_n_layers": 3,
        "local_attention": 128,
        "cls_token_id": 101,
        "sep_token_id": 102,
        "bos_token_id": 101,
        "eos_token_id": 102,
    },
    "DeBERTa-base": {
        "model_type": "deberta-v2",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "relative_attention": True,
        "position_buckets": 256,
        "max_relative_positions": -1,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
}
# The default's first model, by its own head; the others read candidates and text at their first tokens.
MODELS["minilm-l6-v1"] = MODELS["MiniLM-L6"]
_HEADS: dict[str, dict[str, Any]] = {
    "minilm-l6-v1": {
        "query_attention_start": 3,
        "query_key_bias": True,
        "token_interaction": True,
        "class_token_pooling": "average",
        "pooling_strategy": "avg",
        "normalize_features": True,
    }
}
CASES = ((1, 20), (1, 100), (1, 1000), (64, 20))


@dataclass
class Counts:
    """Requests to the device.

    Attributes:
        forwards: Results that were read.
        launches: Kernels.
        copies_in: Copies from the host.
        syncs: Waits for the device other than for a result.
        tokens_computed: Tokens that went through the layers, padding included.
    """

    forwards: int = 0
    launches: int = 0
    copies_in: int = 0
    syncs: int = 0
    tokens_computed: int = 0


class DeviceCounter(TorchDispatchMode):
    """Context that counts what is asked of the device "meta".

    Attributes:
        counts: Counts so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self._functions = _Functions(self.counts)

    def __enter__(self) -> DeviceCounter:
        self._functions.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._functions.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # torch's protocol
        name, kwargs, counts = func._schema.name.split("::")[1], kwargs or {}, self.counts
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if name in _READS and any(each.device == META for each in given):
            counts.syncs += 1
            if name in ("_local_scalar_dense", "item", "is_nonzero"):
                return False if given[0].dtype == torch.bool else 1
        if name == "repeat_interleave" and kwargs.get("output_size") is None:
            counts.syncs += 1
        result = func(*args, **kwargs)
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        places = {each.device.type for each in (*given, *made)}
        if "meta" not in places or name in _NO_LAUNCH or _is_view(name, given, made):
            return result
        if name in ("_to_copy", "copy_", "to") and "cpu" in places:
            source = given[-1] if name == "copy_" else given[0]
            counts.copies_in += source.device.type == "cpu"
            counts.syncs += source.device.type != "cpu"
            return result
        if name == "embedding" and given[0].shape[0] == _VOCABULARY:
            counts.tokens_computed += given[1].numel()
        counts.launches += 1
        return result


class _Functions(TorchFunctionMode):
    """Fused attention as one kernel, and results as zeros."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self._counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # torch's protocol
        if func is functional.scaled_dot_product_attention and args[0].device == META:
            return args[0].sin()[..., : args[2].shape[-1]]  # one launch of the result's shape
        if func is Tensor.tolist and args[0].device == META:
            self._counts.forwards += 1
            return torch.zeros(args[0].shape).tolist()
        return func(*args, **(kwargs or {}))


def _is_view(name: str, given: Sequence[Tensor], made: Sequence[Tensor]) -> bool:
    """Tell an operation that computes nothing with these arguments from one that does."""
    if name in ("contiguous", "reshape", "flatten") and given:
        try:
            given[0].view(made[0].shape)
        except RuntimeError:
            return False
        return name != "contiguous" or given[0].is_contiguous()
    return name in ("to", "float") and given[0].dtype == made[0].dtype and given[0].device == made[0].device


def plans_of(model: str) -> tuple[str, ...]:
    """Attention plans that a model can run."""
    return ("shared_query",) if model in _HEADS else ("shared_query", "joint")


def shaped_config(model: str, plan: str, **changes: Any) -> ModelConfig:
    """Config of a uni-encoder of a model's size."""
    return ModelConfig.from_dict(
        {
            "encoder_config": {**MODELS[model], "vocab_size": _VOCABULARY, "pad_token_id": 0},
            "vocab_size": _VOCABULARY,
            "hidden_size": MODELS[model]["hidden_size"],
            "class_token_index": 30522,
            "text_token_index": 30523,
            "example_token_index": 30524,
            "attention_plan": plan,
            "prompt_first": True,
            **_HEADS.get(model, {}),
            **changes,
        }
    )


def passage_lengths(count: int, seed: int) -> list[int]:
    """Log-normal lengths in tokens, marker and closing token included, with a mean of 101."""
    rng = random.Random(seed)
    return [max(8, min(316, round(rng.lognormvariate(4.49, 0.5)))) for _ in range(count)]


def token_plan(config: ModelConfig, plan: str, lengths: Sequence[int], query_tokens: int = 16) -> TokenPlan[Any]:
    """Plan of a query and passages of given lengths; the ids mean nothing."""
    members = tuple(range(len(lengths)))
    if plan == "shared_query":
        candidates = tuple((30522, *(7 + index % 20000,) * (length - 1)) for index, length in enumerate(lengths))
        return TokenPlan((Blocks((101,) * query_tokens, candidates),), (members,))
    room = optimal_window_tokens(config.shape, query_tokens) - query_tokens
    groups, windows = pack(lengths, room), []
    for group in groups:
        starts = [sum(lengths[index] for index in group[:place]) for place in range(len(group))]
        text_start = sum(lengths[index] for index in group)
        windows.append(Window((7,) * (text_start + query_tokens), tuple(starts), text_start))
    return TokenPlan(tuple(windows), tuple(map(tuple, groups)))


def counted(
    model: str,
    plan: str,
    *,
    queries: int,
    passages: int,
    attention: Attention,
    query_tokens: int = 16,
    **changes: Any,
) -> dict[str, Any]:
    """Count the forward passes of a call, as on a GPU in bfloat16.

    Args:
        model: Name in `MODELS`.
        plan: Attention plan.
        queries: Number of queries.
        passages: Passages of each query.
        attention: As chosen by `resolve_attention` on a GPU.
        query_tokens: Tokens of a query.
        **changes: Settings of the model's config.

    Returns:
        The case and its counts, as JSON values.
    """
    config = shaped_config(model, plan, **changes)
    with META:
        network = build_model(config)
    runtime = replace(
        resolve_runtime(config, backend="torch", device="meta", dtype="bfloat16"),
        attention=attention,
        batch_tokens=batch_tokens_of(attention, config.shape.width, META),
    )
    executor = build_executor(network, runtime, plan=plan)
    plans = [token_plan(config, plan, passage_lengths(passages, seed), query_tokens) for seed in range(queries)]
    with DeviceCounter() as counter:
        executor.run(plans)
    real = sum(tokens_of(request) for each in plans for request in each.requests)
    return {
        "model": model,
        "plan": plan,
        "attention": attention,
        "queries": queries,
        "passages": passages,
        **asdict(counter.counts),
        "tokens_real": real,
    }


def tokens_of(request: Blocks | Window) -> int:
    """Tokens of a request, without padding."""
    own = request.token_ids if isinstance(request, Window) else request.query_ids
    return len(own) + sum(map(len, request.candidate_ids))
