"""Gradients of a step's items, or of one process's share of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gliclass_rerank.checkpoint.loading import Checkpoint
from gliclass_rerank.checkpoint.plan import resolve_plan
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.training.batches import Batch, ItemCollator
from gliclass_rerank.learn.training.config import TrainConfig
from gliclass_rerank.learn.training.objective import item_loss
from gliclass_rerank.learn.training.packed import run_packed, unpackable_reason
from gliclass_rerank.learn.training.packing import ROW_MULTIPLE, packed_chunks
from gliclass_rerank.learn.training.precision import ItemOutput, run
from gliclass_rerank.learn.training.sources import load_source
from gliclass_rerank.learn.training.stream import Item, Stream
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.pipeline import build_planner
from gliclass_rerank.prompt.planner import Planner
from gliclass_rerank.settings import RerankerSettings, default_batch_tokens

# Packed tokens per pass: enough for the matrices, few enough for memory (about 15 KiB per token and layer).
_PACKED_TOKENS = 6144


@dataclass(frozen=True)
class Part:
    """Result of a process for a step.

    Attributes:
        loss: Share of the step's loss.
        num_tokens: Tokens without padding.
        num_padded: Tokens with padding.
    """

    loss: float
    num_tokens: int
    num_padded: int

    def __add__(self, other: Part) -> Part:
        return Part(self.loss + other.loss, self.num_tokens + other.num_tokens, self.num_padded + other.num_padded)


class Gradients:
    """Gradient computation for this process's share of each step's items.

    Args:
        config: Config of the run.
        checkpoint: Trained checkpoint, on its device, frozen and with its dropout set.
        share: Number of this process, from 0.

    Raises:
        ConfigError: The config asks for packing, which the model does not support.
    """

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint, share: int = 0) -> None:
        self._config, self._share, self._model = config, share, checkpoint.model
        self.plan = resolve_plan(checkpoint, None)
        if self.plan == "joint" and any(source.kind == "texts" for source in config.sources):
            raise ConfigError("a source of texts needs a plan in which candidates do not see each other, got 'joint'")
        settings = RerankerSettings(  # a target belongs to a whole passage, not to its best chunk
            max_window_tokens=config.max_window_tokens,
            max_example_tokens=config.max_example_tokens,
            long_passages="cut",
        )
        self.planner: Planner[Any] = build_planner(checkpoint, self.plan, settings)  # Any: windows or blocks
        sources = [(source, load_source(source, config.seed)) for source in config.sources]
        self.stream = Stream(sources, self.planner, seed=config.seed)
        self._is_packed = _is_packed(config, checkpoint, self.plan)
        self._collate = _collator(config, checkpoint, is_packed=self._is_packed)

    def prepare(self, step: int) -> list[list[Batch]]:
        """Collate this process's items of a step, in lists that run together."""
        count = self._config.queries_per_step
        # Every process plans all items, because the split depends on all lengths.
        items = [self.stream[position] for position in range(step * count, (step + 1) * count)]
        mine = shares([item.num_tokens for item in items], self._config.processes)[self._share]
        batches = self._collate([items[index] for index in mine])
        if not self._is_packed:
            return [[batch] for batch in batches]
        chunks = packed_chunks([batch.num_padded for batch in batches], _PACKED_TOKENS)
        return [[batches[index] for index in chunk] for chunk in chunks]

    def add(self, chunks: Sequence[Sequence[Batch]], step: int) -> Part:
        """Add the gradients of prepared batches to the parameters'."""
        config, model = self._config, self._model
        total = torch.zeros((), device=model.logit_scale.device)
        for number, chunk in enumerate(chunks):
            if config.dropout > 0:
                torch.manual_seed(_dropout_seed(config.seed, step, number * config.processes + self._share))
            loss = self._loss(chunk) / config.queries_per_step
            loss.backward()  # type: ignore[no-untyped-call] # torch's own
            total += loss.detach()
        batches = [batch for chunk in chunks for batch in chunk]
        return Part(
            total.item(), sum(batch.num_tokens for batch in batches), sum(batch.num_padded for batch in batches)
        )

    def _loss(self, chunk: Sequence[Batch]) -> Tensor:
        """Sum of the losses of batches that run together."""
        items = items_of(chunk)
        terms = [self._config.sources[item.source].losses for item, _ in items]
        with_vectors = any(term.wants_vectors for losses in terms for term in losses)
        outputs = self._outputs(self._model, chunk, with_vectors=with_vectors)
        losses = [
            item_loss(logits, vectors, item.question, order, terms_of_item)
            for (logits, vectors), (item, order), terms_of_item in zip(outputs, items, terms, strict=True)
        ]
        return torch.stack(losses).sum()

    def _outputs(self, model: ScoringHead, chunk: Sequence[Batch], *, with_vectors: bool) -> list[ItemOutput]:
        if self._is_packed:
            assert isinstance(model, GLiClass), "see `unpackable_reason`"
            return run_packed(model, chunk, self._config.precision, with_vectors=with_vectors)
        (batch,) = chunk
        return run(model, batch, self._config.precision, with_vectors=with_vectors)


def items_of(chunk: Sequence[Batch]) -> list[tuple[Item, tuple[int, ...]]]:
    """Items of batches that run together, with the orders of their candidates."""
    return [(item, order) for batch in chunk for item, order in zip(batch.items, batch.orders, strict=True)]


def shares(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Split at least `count` items of given token sizes evenly among `count` processes, each with one item or more."""
    found: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], index)):
        least = min(range(count), key=lambda share: (loads[share], share))
        found[least].append(index)
        loads[least] += sizes[index]
    return [sorted(share) for share in found]


def _is_packed(config: TrainConfig, checkpoint: Checkpoint, plan: str | None) -> bool:
    reason = unpackable_reason(checkpoint.model, plan=plan, dropout=config.dropout)
    if config.packed and reason is not None:
        raise ConfigError(f"`packed` is asked for, but {reason}")
    return config.packed is not False and reason is None


def _collator(config: TrainConfig, checkpoint: Checkpoint, *, is_packed: bool) -> ItemCollator:
    device = checkpoint.model.logit_scale.device
    # A CPU works best within its cache; a GPU needs large batches.
    is_cpu = device.type == "cpu"
    group_tokens = default_batch_tokens(on_cpu=is_cpu)
    if is_packed:
        # Groups only affect attention here, so one more costs little.
        return ItemCollator(
            checkpoint.config,
            device,
            multiple=config.padding_multiple or 1,
            group_tokens=group_tokens,
            group_cost=8,
            row_multiple=ROW_MULTIPLE,
        )
    is_half = config.precision == "bfloat16"
    multiple = config.padding_multiple
    if multiple is None:
        multiple = 64 if is_half else 1
    # Group cost with the fastest training on 24 passages of 8 to 250 tokens: 16 to 64 in float32,
    # 128 where tokens themselves cost less.
    group_cost = (128 if is_half else 32) if is_cpu else 4096
    return ItemCollator(checkpoint.config, device, multiple=multiple, group_tokens=group_tokens, group_cost=group_cost)


def _dropout_seed(seed: int, step: int, batch: int) -> int:
    """Seed of one forward pass, which makes a stored random state unnecessary."""
    return int(np.random.SeedSequence([seed, 3, step, batch]).generate_state(1, np.uint64)[0]) >> 1
