"""Training run of a learning: work folder, lists with the start's logits, config."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.checkpoint.loading import Checkpoint, load_checkpoint
from gliclass_rerank.checkpoint.plan import resolve_plan
from gliclass_rerank.errors import ConfigError, listed
from gliclass_rerank.files.atomic_write import atomic_file, read_json
from gliclass_rerank.files.digests import folder_digest
from gliclass_rerank.learn.training.config import StartConfig, TrainConfig
from gliclass_rerank.learn.training.packed import unpackable_reason
from gliclass_rerank.learn.training.source_config import LossConfig, SourceConfig
from gliclass_rerank.learn.updating.lists import START, GainList, record_of
from gliclass_rerank.learn.updating.network import learning_folder, list_logits, quick_settings
from gliclass_rerank.learn.updating.settings import LearnSettings
from gliclass_rerank.pipeline import Pipeline

_WORK: Final = "learning"
_PLAN: Final = "plan.json"
_LISTS: Final = "lists.jsonl"
_STEPS_PER_STATE: Final = 50


@dataclass(frozen=True)
class Work:
    """Work folder of an unfinished learning, within the model's folder.

    Attributes:
        folder: Work folder.
        start: Folder of the ranker that it starts from.
    """

    folder: Path
    start: Path

    @classmethod
    def of(cls, model: Path, start: Path) -> Work:
        """Work folder of a model."""
        return cls(model / _WORK, start)

    @property
    def lists(self) -> Path:
        """Training lists."""
        return self.folder / _LISTS

    @property
    def num_lists(self) -> int:
        """Number of training lists."""
        with self.lists.open(encoding="utf-8") as file:
            return sum(1 for _ in file)

    @property
    def run(self) -> Path:
        """Folder of the training run."""
        return self.folder / "run"

    @property
    def candidate(self) -> Path:
        """Ranker with the learned weights."""
        return self.folder / "candidate"

    def goes_on(self, settings: LearnSettings) -> bool:
        """Test for an unfinished learning with the same start and settings; a `ConfigError` if they differ."""
        if not (self.folder / _PLAN).is_file():
            return False
        now, known = self._plan(settings), read_json(self.folder, _PLAN)
        if changed := {key for key in now if not isinstance(known, dict) or known.get(key) != now[key]}:
            raise ConfigError(
                f"`{self.folder}` holds an unfinished learning with another {listed(changed)}; "
                "take the same ones, or start anew with `--fresh`"
            )
        return True

    def begin(self, lists: Sequence[GainList], settings: LearnSettings, on_scored: Callable[[int], object]) -> None:
        """Write the lists with the start's logits; the plan goes last, so that a kill leaves no half of it."""
        self.remove()
        self.folder.mkdir(parents=True)
        words = settings.max_passage_words
        pipeline = Pipeline(quick_settings(learning_folder(self.start)))
        logits = list_logits(pipeline, [(one.query, one.passages) for one in lists], on_scored)
        with atomic_file(self.lists) as staging, staging.open("w", encoding="utf-8") as file:
            for one, row in zip(lists, logits, strict=True):
                file.write(json.dumps(record_of(one, row, words)) + "\n")
        with atomic_file(self.folder / _PLAN) as staging:
            staging.write_text(json.dumps(self._plan(settings), indent=2) + "\n", encoding="utf-8")

    def remove(self) -> None:
        """Remove the folder, with the queries and passages in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _plan(self, settings: LearnSettings) -> Mapping[str, Any]:  # Any: JSON
        return {"start": folder_digest(self.start, is_sampled=True), **settings.to_dict()}


def train_config(work: Work, settings: LearnSettings) -> TrainConfig:
    """Config of the training run."""
    network = learning_folder(work.start)
    checkpoint = load_checkpoint(network)
    count = work.num_lists
    queries_per_step = min(settings.queries_per_step, count)
    reason = unpackable_reason(checkpoint.model, plan=resolve_plan(checkpoint, None), dropout=0.0)
    return TrainConfig(
        output=work.run,
        sources=(
            SourceConfig(
                path=work.lists, kind="ranking", max_candidates=settings.max_passages, losses=_losses(settings)
            ),
        ),
        start=StartConfig(model=str(network)),
        seed=settings.seed,
        steps=math.ceil(settings.epochs * count / queries_per_step),
        queries_per_step=queries_per_step,
        encoder_learning_rate=settings.learning_rate,
        head_learning_rate=settings.head_learning_rate,
        freeze_embeddings=True,
        frozen_layers=max(0, _num_layers(checkpoint) - settings.trained_layers),
        precision="bfloat16" if reason is None else "float32",
        checkpoint_every=_STEPS_PER_STATE,
        keep_checkpoints=1,
        plot=False,
    )


def _losses(settings: LearnSettings) -> tuple[LossConfig, ...]:
    main = LossConfig(name="listwise")
    if settings.objective == "policy":
        main = LossConfig(name="policy", teachers=(START,), clip=settings.clip)
    if not settings.kl_weight:
        return (main,)
    return main, LossConfig(name="kl", weight=settings.kl_weight, teachers=(START,))


def _num_layers(checkpoint: Checkpoint) -> int:
    return checkpoint.config.shape.num_layers
