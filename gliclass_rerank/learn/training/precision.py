"""Training forward pass: backbone in half precision on request, head in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gliclass_rerank.learn.training.batches import Batch
from gliclass_rerank.learn.training.config import Precision
from gliclass_rerank.model.backbones.interface import LayerRunner
from gliclass_rerank.model.head import ScoringHead

ItemOutput = tuple[Tensor, Tensor | None]
"""An item's logits, FloatTensor [num_candidates], and candidate vectors, FloatTensor [num_candidates, hidden]."""


def run(model: ScoringHead, batch: Batch, precision: Precision, *, with_vectors: bool) -> list[ItemOutput]:
    """Run a batch through the model, with gradients.

    Args:
        model: Model.
        batch: Collated items.
        precision: Precision of the backbone's matrices; weights are float32.
        with_vectors: Return the candidates' projected vectors too.

    Returns:
        Logits of each item, FloatTensor [num_candidates] in the batch's order, and candidate vectors, FloatTensor
        [num_candidates, hidden] or None.
    """
    with ExitStack() as stack:
        if precision == "bfloat16":
            stack.enter_context(_half_precision(model, model.logit_scale.device.type))
        return outputs_of(model, batch, with_vectors=with_vectors)


def outputs_of(
    model: ScoringHead, batch: Batch, *, with_vectors: bool, runner: LayerRunner | None = None
) -> list[ItemOutput]:
    """Run a batch through the model in its current precision.

    Args:
        model: Model.
        batch: Collated items.
        with_vectors: Return the candidates' projected vectors too.
        runner: Layer runner; None for torch.

    Returns:
        Outputs of each item, as from `run`.
    """
    options = {} if runner is None else {"runner": runner}
    with ExitStack() as stack:
        caught = stack.enter_context(_outputs(model.classes_projector)) if with_vectors else []
        logits = batch.rows(batch.inputs.scored_by(model, **options))
    if not with_vectors:
        return [(row, None) for row in logits]
    # Blocks return candidates group by group, windows all at once.
    return list(zip(logits, batch.rows(torch.cat(caught)), strict=True))


@contextmanager
def _half_precision(model: ScoringHead, device: str) -> Iterator[None]:
    """Autocast for the backbone alone: logits in half precision would blur close candidates."""
    encoders = {id(encoder) for encoder in model.encoders}
    head = [module for module in model.children() if id(module) not in encoders]
    with ExitStack() as stack:
        for module in head:
            stack.enter_context(_in_float32(module, device))
        stack.enter_context(torch.autocast(device, torch.bfloat16))
        if device == "cpu":
            stack.enter_context(_AttentionInFloat32())
        yield


@contextmanager
def _in_float32(module: nn.Module, device: str) -> Iterator[None]:
    """Switch autocast off while a module runs."""
    running = ExitStack()

    def enter(*_: object) -> None:
        running.enter_context(torch.autocast(device, enabled=False))

    def leave(*_: object) -> None:
        running.close()

    handles = [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a module's outputs."""
    caught: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    try:
        yield caught
    finally:
        handle.remove()


class _AttentionInFloat32(TorchFunctionMode):
    """Torch function mode for CPU attention in float32, in this thread and block only.

    Torch's fused CPU kernel is five times slower backward in bfloat16 than in float32 (torch 2.13), which outweighs all
    other savings.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # torch's protocol
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            with torch.autocast("cpu", enabled=False):
                return func(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})
        return func(*args, **kwargs)


def _widened(value: Any) -> Any:  # Any: arguments of torch's function
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
