"""Networks with exported layers, beside torch's, and what they are given."""

from __future__ import annotations

import pytest

from gliclass_rerank.runtime.export import build_executor
from gliclass_rerank.runtime.resolve import resolve_runtime
from gliclass_rerank.types import Blocks, Window

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
# Other kernels and another order of summation; logits are of order 1.
TOLERANCE = 1e-4
# What `assemble.from_cross_encoder` makes, what comes with the package, and what reads every layer.
HEADS = {
    "first token": {
        "class_token_pooling": "first",
        "use_segment_embeddings": True,
        "candidate_position_start": 8,
        "use_calibrator": False,
    },
    "token after the marker": {"class_token_pooling": "first", "embed_class_token": False},
    "averaged tokens": {"query_key_bias": True, "token_interaction": True, "query_attention_start": 1},
    "never sees the query": {"query_attention_start": 3},
    "every layer": {"squeeze_layers": True, "use_lstm": True},
    "an inner layer": {"encoder_layer_id": 2, "scorer_type": "mlp"},
}


def first_of(*values):
    """The first always, the others with `-m slow`."""
    return [values[0], *(pytest.param(value, marks=pytest.mark.slow) for value in values[1:])]


def blocks(checkpoint, *lengths):
    label = checkpoint.config.class_token_index
    return Blocks((2, 11, 13, 17, 3), tuple((label, *range(5, 5 + length), 3) for length in lengths))


def window(checkpoint, num_candidates):
    config = checkpoint.config
    candidates = [token for number in range(num_candidates) for token in (config.class_token_index, 7 + number)]
    ids = (2, *candidates, config.text_token_index, 11, 13, 3)
    return Window(ids, tuple(range(1, 1 + 2 * num_candidates, 2)), 1 + 2 * num_candidates)


def head_values(head, backbone, **changes):
    values = {**HEADS[head], **changes}
    if backbone != "bert":  # the others' positions are relative
        values.pop("candidate_position_start", None)
    return {"attention_plan": "shared_query", **values}


class CacheOfLayer:
    """Stands for a passage cache of which only the layer is looked at."""

    def __init__(self, layer):
        self.layer = layer


def network(model, backend, plan, **options):
    runtime = resolve_runtime(model.config, backend=backend, device="cpu")
    return build_executor(model, runtime, plan=plan, **options).network


def both(checkpoint, runtime, plan):
    """A network in torch and one with exported layers."""
    return (network(checkpoint.model, name, plan) for name in ("torch", runtime))
