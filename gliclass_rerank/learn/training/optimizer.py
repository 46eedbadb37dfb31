"""What is trained, how fast: frozen parts, parameter groups, the learning rate's course."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain

import torch
from torch import nn

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.training.config import ScheduleName, TrainConfig
from gliclass_rerank.model.head import ScoringHead


def freeze(model: ScoringHead, *, embeddings: bool, layers: int) -> None:
    """Take parts of the backbones out of training.

    Args:
        model: Changed in place: frozen parameters need no gradient, and none is computed for them.
        embeddings: Whether everything below the first layer stays as it is.
        layers: The lowest so many layers stay as they are, and what is below them.

    Raises:
        ConfigError: There are not so many layers.
    """
    for encoder in model.encoders:
        stack = _layers(encoder)
        if stack is None:  # segment vectors, which are part of the input
            encoder.requires_grad_(not (embeddings or layers))
            continue
        if layers > len(stack):
            raise ConfigError(f"`frozen_layers` must be at most the number of layers {len(stack)}, got {layers}")
        if embeddings or layers:
            _embeddings(encoder).requires_grad_(False)
        for layer in stack[:layers]:
            layer.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if ".pooler." in f".{name}":
            parameter.requires_grad_(False)  # no forward pass reads it


def _layers(encoder: nn.Module) -> nn.ModuleList | None:
    """The stack of transformer layers, whatever the family calls it: the outermost list of modules."""
    return next((module for module in encoder.modules() if isinstance(module, nn.ModuleList)), None)


def _embeddings(encoder: nn.Module) -> nn.Module:
    """The embedding module with its positions and norm, or the bare table where the family has no such module."""
    module = getattr(encoder, "embeddings", None)
    if not isinstance(module, nn.Module):
        module = encoder.get_input_embeddings()  # type: ignore[operator] # a transformers model behind nn.Module
    assert isinstance(module, nn.Module), "every backbone embeds tokens"
    return module


def set_dropout(model: nn.Module, probability: float) -> None:
    """Give every dropout module one probability; at 0 the model stays in evaluation mode, which costs nothing.

    Args:
        model: Changed in place.
        probability: In [0, 1].
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
    model.train(probability > 0)


def build_optimizer(model: ScoringHead, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what is trained: encoder, head and its gates, with and without decay.

    Args:
        model: Frozen already.
        config: Rates and decay.

    Returns:
        The optimizer; each group has its `peak`, and the rate 0 until `set_rates` is called.

    Raises:
        ConfigError: Everything is frozen.
    """
    of_encoder = {id(parameter) for encoder in model.encoders for parameter in encoder.parameters()}
    gate_rate = config.gate_learning_rate
    peaks = {
        "encoder": config.encoder_learning_rate,
        "head": config.head_learning_rate,
        "gate": config.head_learning_rate if gate_rate is None else gate_rate,
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Norms and most biases have one axis; a scalar may be dressed as a matrix.
            decays = parameter.ndim > 1 and parameter.numel() > 1 and not name.endswith("bias")
            is_gate = parameter.numel() == 1 or name == "query_key_bias"
            part = "encoder" if id(parameter) in of_encoder else "gate" if is_gate else "head"
            groups.setdefault((part, decays), []).append(parameter)
    if not groups:
        raise ConfigError("everything is frozen, so there is nothing to train")
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "peak": peaks[part],
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (part, decays), parameters in groups.items()
        ],
        lr=0.0,
        # One pass over the weights instead of ten.
        fused=model.logit_scale.device.type in ("cpu", "cuda"),
    )


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its peak times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(step: int, num_steps: int, *, warmup_share: float, schedule: ScheduleName) -> float:
    """The share of the peak learning rate that a step gets: a function of the step alone, so nothing is to be kept.

    Args:
        step: The step, from 0.
        num_steps: Steps of the whole run.
        warmup_share: Share of the steps in which the rate rises.
        schedule: What comes after.

    Returns:
        A number above 0 and at most 1.
    """
    warmup = round(num_steps * warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, num_steps - warmup)
    return 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2


def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float | None) -> float:
    """Shorten the gradient of all parameters together.

    Args:
        optimizer: Its parameters' gradients are changed.
        max_norm: The greatest length; None leaves the gradient as it is.

    Returns:
        The length before.
    """
    parameters = list(chain.from_iterable(group["params"] for group in optimizer.param_groups))
    limit = math.inf if max_norm is None else max_norm
    return float(torch.nn.utils.clip_grad_norm_(parameters, limit))


def named_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's tensors by parameter name, such as `scorer.weight/exp_avg`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{key}": tensor
        for parameter, values in optimizer.state.items()
        for key, tensor in values.items()
    }


def restore_state(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `named_state` took.

    Args:
        model: The model whose parameters the optimizer has.
        optimizer: Changed in place.
        tensors: Its tensors, on any device.
    """
    parameters = dict(model.named_parameters())
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        optimizer.state[parameter][key] = tensor.to(parameter.device)
