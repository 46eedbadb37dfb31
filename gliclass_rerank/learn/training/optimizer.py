"""Freezing, parameter groups, learning-rate schedule."""

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
    """Freeze parts of the backbones, in place.

    Args:
        model: Model.
        embeddings: Freeze everything below the first layer.
        layers: Number of lowest layers to freeze, with everything below.

    Raises:
        ConfigError: The backbone has fewer layers.
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
            parameter.requires_grad_(False)  # unused in the forward pass


def _layers(encoder: nn.Module) -> nn.ModuleList | None:
    """Stack of transformer layers in any family: the outermost list of modules."""
    return next((module for module in encoder.modules() if isinstance(module, nn.ModuleList)), None)


def _embeddings(encoder: nn.Module) -> nn.Module:
    """Embedding module with positions and norm, or the bare table in families without one."""
    module = getattr(encoder, "embeddings", None)
    if not isinstance(module, nn.Module):
        module = encoder.get_input_embeddings()  # type: ignore[operator] # a transformers model behind nn.Module
    assert isinstance(module, nn.Module), "every backbone embeds tokens"
    return module


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set every dropout module's probability in [0, 1], in place; 0 keeps evaluation mode, which is free."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
    model.train(probability > 0)


def build_optimizer(model: ScoringHead, config: TrainConfig) -> torch.optim.AdamW:
    """Build AdamW over encoder, head and gates, with and without decay.

    Args:
        model: Frozen model.
        config: Rates and decay.

    Returns:
        Optimizer whose groups have a `peak`, and the rate 0 until `set_rates` is called.

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
            # Norms and most biases have one axis; a scalar may be shaped as a matrix.
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
    """Factor of the peak learning rate at a step, in (0, 1].

    Args:
        step: Step, from 0.
        num_steps: Steps of the whole run.
        warmup_share: Share of the steps with a rising rate.
        schedule: Schedule after warm-up.

    Returns:
        The factor.
    """
    warmup = round(num_steps * warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, num_steps - warmup)
    return 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2


def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float | None) -> float:
    """Clip the gradient of all parameters together to `max_norm` (None for no limit), and return its norm before."""
    parameters = list(chain.from_iterable(group["params"] for group in optimizer.param_groups))
    limit = math.inf if max_norm is None else max_norm
    return float(torch.nn.utils.clip_grad_norm_(parameters, limit))


def named_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Tensors of the optimizer by parameter name, such as `scorer.weight/exp_avg`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{key}": tensor
        for parameter, values in optimizer.state.items()
        for key, tensor in values.items()
    }


def restore_state(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore the optimizer, in place, from the tensors of `named_state`, on any device."""
    parameters = dict(model.named_parameters())
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        optimizer.state[parameter][key] = tensor.to(parameter.device)
