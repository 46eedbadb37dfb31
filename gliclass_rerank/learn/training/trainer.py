"""Training loop.

transformers' `Trainer` (5.23) is unsuitable: killed while saving, it leaves a checkpoint that it cannot resume from; it
seeds process-wide generators, allows one precision per process, and cannot save tied weights of a plain module.

A step depends only on its number and the weights. A state is weights, optimizer moments and a few numbers, and a
resumed run ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Final

import torch

from gliclass_rerank._imports import require
from gliclass_rerank.checkpoint.loading import Checkpoint
from gliclass_rerank.errors import BackendError, ConfigError
from gliclass_rerank.learn.training.batches import Batch
from gliclass_rerank.learn.training.config import TrainConfig
from gliclass_rerank.learn.training.curves import Journal, draw
from gliclass_rerank.learn.training.dev import DevSets, LiveScorer, columns, selected
from gliclass_rerank.learn.training.folder import Progress, RunFolder
from gliclass_rerank.learn.training.gradients import Gradients
from gliclass_rerank.learn.training.optimizer import (
    build_optimizer,
    clip_gradients,
    freeze,
    named_state,
    rate_factor,
    restore_state,
    set_dropout,
    set_rates,
)
from gliclass_rerank.learn.training.ppo import PpoGradients
from gliclass_rerank.learn.training.reports import Pace, Report
from gliclass_rerank.learn.training.sources import data_files
from gliclass_rerank.learn.training.start import load_start
from gliclass_rerank.learn.training.stream import prepared
from gliclass_rerank.learn.training.workers import Workers
from gliclass_rerank.runtime.resolve import resolve_device

_TRAIN_COLUMNS: Final = ("step", "loss", "gradient_norm", "rate_factor", "tokens", "padded_tokens", "seconds")
_REWARD: Final = "reward"


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run, or of this part of it.

    Attributes:
        progress: Progress of the run.
        num_steps: Total steps.
        is_finished: All steps are done, or patience ran out.
    """

    progress: Progress
    num_steps: int
    is_finished: bool


def train(
    config: TrainConfig,
    *,
    minutes: float | None = None,
    fresh: bool = False,
    on_report: Callable[[Report], object] | None = None,
) -> Outcome:
    """Train, or resume a run that was stopped or killed.

    Args:
        config: Config of the run. A run of the same config in its `output` is resumed.
        minutes: Approximate time limit, applied at the end of a step; None for none.
        fresh: Delete an existing run and start over.
        on_report: Callback after every step and evaluation.

    Returns:
        Outcome. `output/last` holds the newest checkpoint, `output/best` the best one on the dev sets.

    Raises:
        ConfigError: The config does not fit the model, or `output` holds something else.
        DataError: A data file is missing or malformed.
        CheckpointError: The start checkpoint or the run's state cannot be loaded.
        BackendError: The loss is no longer a number.
        MissingDependencyError: A required package is not installed.
    """
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"`minutes` must be above 0, got {minutes}")
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    threads = 1 if config.threads is None and config.processes > 1 else config.threads
    with _own_settings(threads):
        return _Run(config, fresh, on_report or (lambda _: None)).go(deadline)


@contextmanager
def _own_settings(threads: int | None) -> Iterator[None]:
    """Threads and random state of the run; the process's are restored."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before)


class _Run:
    def __init__(self, config: TrainConfig, fresh: bool, on_report: Callable[[Report], object]) -> None:
        self.config, self.on_report = config, on_report
        if config.plot:
            require("matplotlib.figure", extra="train")  # before hours are spent
        self.dev = DevSets(config.dev)
        self.folder, data_sizes = RunFolder(config.output), data_files(config)
        goes_on = not fresh and self.folder.holds(config, data_sizes)
        saved = self.folder.load_state() if goes_on else None
        self.progress = Progress() if saved is None else saved.progress
        self.device = resolve_device(config.device)
        self.checkpoint = load_start(config.start) if saved is None else saved.checkpoint
        self.model = self.checkpoint.model.to(self.device)
        freeze(self.model, embeddings=config.freeze_embeddings, layers=config.frozen_layers)
        set_dropout(self.model, config.dropout)
        self.optimizer = build_optimizer(self.model, config)
        if saved is not None:
            restore_state(self.model, self.optimizer, saved.optimizer)
        self.gradients = _gradients(config, self.checkpoint, self.progress)
        self.columns = (*_TRAIN_COLUMNS, *([_REWARD] if config.objective == "ppo" else []))
        self.scorer = LiveScorer(self.model, self.gradients.planner, self.gradients.plan)
        self.num_steps = _num_steps(config, self.gradients.stream.num_records)
        self.pace = Pace()
        # Late, because an invalid config must neither claim nor empty a folder.
        if goes_on:
            self.folder.tidy()
        else:
            self.folder.begin(config, data_sizes)
        # A run killed before its first state starts over, with the evaluation at step 0.
        written = -1 if saved is None else self.progress.step
        self.train_journal = Journal(config.output / "train.csv", self.columns, after=written)
        self.dev_journal = Journal(config.output / "dev.csv", ("step", "selected", *columns(config.dev)), after=written)

    @property
    def is_finished(self) -> bool:
        return self.progress.stopped_early or self.progress.step >= self.num_steps

    def go(self, deadline: float) -> Outcome:
        """Run until the end or the deadline."""
        if self.progress.step == 0 and self.config.dev:
            self._evaluate()
        if not self.is_finished:
            with (
                Workers(self.config, self.model, self.progress.step) as self.workers,
                closing(prepared(self.gradients.prepare, self.progress.step)) as steps,
            ):
                self._loop(steps, deadline)
        return Outcome(self.progress, self.num_steps, self.is_finished)

    def _loop(self, steps: Iterator[list[list[Batch]]], deadline: float) -> None:
        config = self.config
        while not self.is_finished:
            self._step(steps)
            step = self.progress.step
            is_due = config.eval_every is not None and step % config.eval_every == 0
            if self.config.dev and (is_due or step == self.num_steps):
                self._evaluate()
            ends = self.is_finished or time.monotonic() >= deadline
            if ends:
                self.folder.save_model("last", self.checkpoint)
                self._draw()
            if ends or step % config.checkpoint_every == 0:
                state = named_state(self.model, self.optimizer)
                self.folder.save_state(self.progress, self.checkpoint, state, keep=config.keep_checkpoints)
            if ends:
                return

    def _step(self, steps: Iterator[list[list[Batch]]]) -> None:
        config, progress = self.config, self.progress
        started = time.monotonic()
        factor = rate_factor(progress.step, self.num_steps, warmup_share=config.warmup_share, schedule=config.schedule)
        chunks, more = next(steps), dict[str, float]()
        for _ in range(config.ppo.updates if config.objective == "ppo" else 1):
            self.workers.start(progress.step)
            own = self.gradients.add(chunks, progress.step)
            part = sum(self.workers.finish(), own)
            norm = self._update(part.loss, factor)
        if isinstance(self.gradients, PpoGradients):
            self.gradients.end_step()
            more = {_REWARD: self.gradients.reward}
            progress = replace(progress, reward_baseline=self.gradients.baseline)
        seconds = time.monotonic() - started
        self.progress = replace(
            progress,
            step=progress.step + 1,
            num_tokens=progress.num_tokens + part.num_tokens,
            num_padded=progress.num_padded + part.num_padded,
            seconds=progress.seconds + seconds,
        )
        row = (self.progress.step, part.loss, norm, factor, part.num_tokens, part.num_padded, seconds)
        self.train_journal.add({**dict(zip(_TRAIN_COLUMNS, row, strict=True)), **more})
        self.pace.add_step(seconds, part.num_tokens, part.num_padded)
        self._report(part.loss, {})

    def _update(self, step_loss: float, factor: float) -> float:
        """Update the weights and return the gradient norm, after checking it and the loss."""
        norm = clip_gradients(self.optimizer, self.config.max_gradient_norm)
        if not (math.isfinite(step_loss) and math.isfinite(norm)):
            raise BackendError(
                f"the loss of step {self.progress.step + 1} is {step_loss} and its gradient's length {norm}; "
                "lower the learning rates"
            )
        set_rates(self.optimizer, factor)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _evaluate(self) -> None:
        started = time.monotonic()
        figures = self.dev.measure(self.scorer)
        value = selected(self.config.dev, self.config.select, figures)
        step, progress = self.progress.step, self.progress
        self.dev_journal.add({"step": step, "selected": value, **figures})
        if progress.best_figure is None or value > progress.best_figure:
            self.progress = replace(progress, best_figure=value, best_step=step, evaluations_since_best=0)
            self.folder.save_model("best", self.checkpoint)
        else:
            waited = progress.evaluations_since_best + 1
            has_waited = self.config.patience is not None and waited >= self.config.patience
            self.progress = replace(progress, evaluations_since_best=waited, stopped_early=has_waited)
        self.folder.save_model("last", self.checkpoint)
        self._draw()
        self.pace.add_evaluation(time.monotonic() - started)
        self._report(math.nan, figures)

    def _draw(self) -> None:
        if self.config.plot:
            draw(self.config.output / "curves.png", self.train_journal.rows(), self.dev_journal.rows())

    def _report(self, loss: float, figures: Mapping[str, float]) -> None:
        steps_left = self.num_steps - self.progress.step
        every = self.config.eval_every
        evaluations_left = 0 if not self.config.dev else 1 if every is None else math.ceil(steps_left / every)
        self.on_report(
            Report(
                step=self.progress.step,
                num_steps=self.num_steps,
                loss=loss,
                tokens_per_second=self.pace.rate(self.pace.num_tokens),
                padded_tokens_per_second=self.pace.rate(self.pace.num_padded),
                seconds_left=self.pace.seconds_left(steps_left, evaluations_left),
                figures=figures,
            )
        )


def _gradients(config: TrainConfig, checkpoint: Checkpoint, progress: Progress) -> Gradients:
    if config.objective == "ppo":
        return PpoGradients(config, checkpoint, progress.reward_baseline)
    return Gradients(config, checkpoint)


def _num_steps(config: TrainConfig, num_records: int) -> int:
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None, "checked by TrainConfig"
    return max(1, round(config.epochs * num_records / config.queries_per_step))
