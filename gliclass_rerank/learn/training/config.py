"""Training config: `TrainConfig`, read from YAML and validated before anything is loaded.

Paths in a file are relative to its folder. docs/guide/training.md explains every key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from gliclass_rerank._imports import require
from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.learn.training.schema import plain, read_settings
from gliclass_rerank.model.config import AttentionPlan

Kind = Literal["ranking", "classification"]
LossName = Literal["listwise", "bce", "focal", "mse", "margin_mse", "ranknet", "kl", "contrastive"]
Precision = Literal["float32", "bfloat16"]
ScheduleName = Literal["linear", "cosine", "constant"]
Unjudged = Literal["ignore", "negative"]


FIGURES: Mapping[Kind, tuple[str, ...]] = {
    "ranking": ("ndcg@10", "mrr@10"),
    "classification": ("macro_f1", "accuracy"),
}
"""Metrics of each kind of dev set; the first one is the default for selection."""


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"`{name}` must be between 0 and 1, got {value}")


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"`{name}` must be above 0, got {value}")


def _check_at_least(name: str, value: float, least: int) -> None:
    if not (value >= least and math.isfinite(value)):
        raise ConfigError(f"`{name}` must be at least {least}, got {value}")


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Start checkpoint and its changes.

    Attributes:
        model: Folder or hub name; None for the bundled model.
        revision: Branch, tag or commit of a hub model.
        attention_plan: Plan to train under; None keeps the checkpoint's.
        query_attention_start: First layer in which passages see the query; None keeps the checkpoint's.
        logit_scale: Factor of normalised features' cosines; None keeps the checkpoint's.
    """

    model: str | None = None
    revision: str | None = None
    attention_plan: AttentionPlan | None = None
    query_attention_start: int | None = None
    logit_scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss term of a source.

    Attributes:
        name: Name of the loss, see `gliclass_rerank.learn.training.losses`.
        weight: Factor of the term.
        temperature: Divisor of the logits (`contrastive`: cosines).
        teachers: Teachers whose scores are the target, standardised per list and averaged; empty for the grades.
        teacher_temperature: Divisor of the teachers' scores.
        gamma: Exponent of `focal`.
        alpha: Weight of the positives in `focal`; None for unweighted.
    """

    name: LossName
    weight: float = 1.0
    temperature: float = 1.0
    teachers: tuple[str, ...] = ()
    teacher_temperature: float = 1.0
    gamma: float = 2.0
    alpha: float | None = None

    def __post_init__(self) -> None:
        _check_positive("temperature", self.temperature)
        _check_positive("teacher_temperature", self.teacher_temperature)
        _check_at_least("weight", self.weight, 0)
        _check_at_least("gamma", self.gamma, 0)
        if self.alpha is not None:
            _check_share("alpha", self.alpha)
        if self.name == "contrastive" and self.teachers:
            raise ConfigError(f"the loss `contrastive` has no target, so it takes no teachers, got {[*self.teachers]}")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation of a source's records; numbers are probabilities unless noted.

    Attributes:
        lower_case: Lower-case the query or text.
        drop_question_words: Drop the query's English question words.
        drop_stop_words: Drop the query's English stop words, question words included.
        cut_passages: Cut each passage (or text to classify) to a random run of at least a third of its words.
        max_examples: Upper limit of a random number of examples; None shows all.
        random_examples: Replace each drawn example by another record of the source.
        drop_false_labels: Hide the false labels of examples that have true ones.
    """

    lower_case: float = 0.0
    drop_question_words: float = 0.0
    drop_stop_words: float = 0.0
    cut_passages: float = 0.0
    max_examples: int | None = None
    random_examples: float = 0.0
    drop_false_labels: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lower_case", "drop_question_words", "drop_stop_words", "cut_passages"):
            _check_share(name, getattr(self, name))
        _check_share("random_examples", self.random_examples)
        _check_share("drop_false_labels", self.drop_false_labels)
        if self.max_examples is not None:
            _check_at_least("max_examples", self.max_examples, 0)
        elif self.random_examples:
            raise ConfigError("`random_examples` needs `max_examples`, the number that examples are drawn up to")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Source of training data.

    Attributes:
        path: JSONL file, perhaps gzipped; for classification also a folder with `<split>.jsonl` and `labels.json`.
        kind: Kind of records.
        split: File of a folder.
        weight: Relative share of the training items.
        max_candidates: Maximum passages or labels per item.
        min_candidates: Lower limit of their random number; None always takes the maximum.
        max_positives: Maximum positives per item; None for all that fit.
        unjudged: Ignore ungraded passages in grade losses, or count them as negatives in records with a positive.
        random_negatives: Random passages of other records added per item; they count as candidates.
        max_passage_words: Maximum words per passage.
        prompt: Task description, prepended to the text.
        labels: All labels, for classification records without them; None reads `labels.json` beside.
        shots: Number of records per label in few-shot training, chosen by the seed; None for all.
        augment: Random augmentation.
        losses: Loss terms; empty for `listwise` (ranking) or `bce` (classification).
    """

    path: Path
    kind: Kind
    split: str = "train"
    weight: float = 1.0
    max_candidates: int = 32
    min_candidates: int | None = None
    max_positives: int | None = None
    unjudged: Unjudged = "ignore"
    random_negatives: int = 0
    max_passage_words: int | None = None
    prompt: str = ""
    labels: tuple[str, ...] | None = None
    shots: int | None = None
    augment: AugmentConfig = AugmentConfig()
    losses: tuple[LossConfig, ...] = ()

    def __post_init__(self) -> None:
        _check_positive("weight", self.weight)
        for name in ("max_candidates", "min_candidates", "max_positives", "max_passage_words", "shots"):
            if getattr(self, name) is not None:
                _check_at_least(name, getattr(self, name), 1)
        if (self.min_candidates or 1) > self.max_candidates:
            raise ConfigError(
                f"`min_candidates` must be at most `max_candidates`, got {self.min_candidates} and "
                f"{self.max_candidates}"
            )
        if not 0 <= self.random_negatives < self.max_candidates:
            raise ConfigError(
                f"`random_negatives` must be at least 0 and below `max_candidates`, got {self.random_negatives}"
            )
        if self.kind == "ranking":
            self._refuse("ranking", "shots", "labels")
        else:
            self._refuse("classification", "random_negatives", "max_positives", "max_passage_words")
            if any(loss.teachers for loss in self.losses):
                raise ConfigError("classification records have no teacher scores, so their losses take no `teachers`")
        if not self.losses:
            default = LossConfig(name="listwise" if self.kind == "ranking" else "bce")
            object.__setattr__(self, "losses", (default,))

    def _refuse(self, kind: str, *names: str) -> None:
        for name in names:
            if getattr(self, name):
                raise ConfigError(f"`{name}` has no meaning in a {kind} source, got {getattr(self, name)!r}")

    @property
    def teachers(self) -> frozenset[str]:
        """Teachers that must have scored every record."""
        return frozenset(name for loss in self.losses for name in loss.teachers)


@dataclass(frozen=True, kw_only=True)
class DevConfig:
    """Dev set measured during training.

    Attributes:
        path: JSONL file, perhaps gzipped; or a folder: a collection for ranking, or one with `<split>.jsonl` and
            `labels.json` for classification.
        kind: Kind of records.
        split: Split of a folder.
        name: Name in reports; None for the file's or folder's.
        limit: Number of records, spread evenly over a file, or the first queries of a collection.
        prompt: Task description, prepended to the text.
        labels: All labels; None reads `labels.json` beside.
    """

    path: Path
    kind: Kind
    split: str = "dev"
    name: str | None = None
    limit: int | None = None
    prompt: str = ""
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.limit is not None:
            _check_at_least("limit", self.limit, 1)

    @property
    def title(self) -> str:
        """Name in reports."""
        return self.path.name.removesuffix(".gz").removesuffix(".jsonl") if self.name is None else self.name


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training run.

    Attributes:
        output: Folder of the run; created if missing.
        sources: Training data, at least one source.
        dev: Dev sets; may be empty.
        start: Start checkpoint.
        seed: Seed of every random choice.
        steps: Optimizer steps; give these or `epochs`.
        epochs: Passes over as many items as all sources have records.
        queries_per_step: Items per step.
        encoder_learning_rate: Peak rate of the backbone.
        head_learning_rate: Peak rate of everything else.
        gate_learning_rate: Peak rate of the head's scalars (scales, intercepts, key bias), which need larger steps than
            matrices; None for the head's.
        warmup_share: Share of the steps with rising rates.
        schedule: Schedule after warm-up; `linear` and `cosine` fall to 0.
        weight_decay: Decay of matrices; biases, norms and scalars have none.
        max_gradient_norm: Limit of gradient clipping; None for none.
        freeze_embeddings: Freeze the embeddings.
        frozen_layers: Number of lowest layers to freeze, embeddings included.
        dropout: Dropout probability of the backbone; 0 switches it off.
        precision: `bfloat16` runs the backbone's matrices in half precision; weights stay float32.
        device: Torch device; None for the best available.
        threads: Torch threads per process; None for torch's default, or 1 with several processes.
        processes: CPU processes that share each step's items.
        packed: Concatenate sequences of several items without padding; None where possible.
        max_window_tokens: Longest sequence; None for inference's.
        max_example_tokens: Token budget of an item's examples; None for inference's.
        padding_multiple: Divisor of a group's tokens, padding included; None for 64 in bfloat16, where new shapes cost
            time and memory, and 1 in float32.
        eval_every: Steps between evaluations, besides start and end; None for only those.
        select: Metric for `best` and early stopping, as `<dev name>.<figure>`; None averages nDCG@10 and macro-F1 over
            all dev sets.
        patience: Evaluations without a new best before stopping early; None never stops early.
        checkpoint_every: Steps between saved states.
        keep_checkpoints: Number of states kept.
        plot: Draw the curves as a PNG; needs matplotlib.
    """

    output: Path
    sources: tuple[SourceConfig, ...]
    dev: tuple[DevConfig, ...] = ()
    start: StartConfig = StartConfig()
    seed: int = 0
    steps: int | None = None
    epochs: float | None = None
    queries_per_step: int = 8
    encoder_learning_rate: float = 2e-5
    head_learning_rate: float = 1e-4
    gate_learning_rate: float | None = None
    warmup_share: float = 0.1
    schedule: ScheduleName = "linear"
    weight_decay: float = 0.01
    max_gradient_norm: float | None = 1.0
    freeze_embeddings: bool = False
    frozen_layers: int = 0
    dropout: float = 0.0
    precision: Precision = "float32"
    device: str | None = None
    threads: int | None = None
    processes: int = 1
    packed: bool | None = None
    max_window_tokens: int | None = None
    max_example_tokens: int | None = None
    padding_multiple: int | None = None
    eval_every: int | None = None
    select: str | None = None
    patience: int | None = None
    checkpoint_every: int = 100
    keep_checkpoints: int = 2
    plot: bool = True

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError("`sources` must name at least one set of training data, got none")
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError(f"give either `steps` or `epochs`, got {shown(self.steps)} and {shown(self.epochs)}")
        if self.epochs is not None:
            _check_positive("epochs", self.epochs)
        for name in ("queries_per_step", "processes", "checkpoint_every", "keep_checkpoints"):
            _check_at_least(name, getattr(self, name), 1)
        for name in ("steps", "threads", "padding_multiple", "eval_every", "patience"):
            if getattr(self, name) is not None:
                _check_at_least(name, getattr(self, name), 1)
        rates = ("encoder_learning_rate", "head_learning_rate", "gate_learning_rate", "weight_decay")
        for name in ("seed", "frozen_layers", "max_example_tokens", *rates):
            if getattr(self, name) is not None:
                _check_at_least(name, getattr(self, name), 0)
        if self.max_gradient_norm is not None:
            _check_positive("max_gradient_norm", self.max_gradient_norm)
        _check_share("warmup_share", self.warmup_share)
        _check_share("dropout", self.dropout)
        self._check_processes()
        self._check_dev()

    def _check_processes(self) -> None:
        if self.processes > self.queries_per_step:
            raise ConfigError(
                f"`processes` share the items of a step, so there can be at most `queries_per_step` = "
                f"{self.queries_per_step}, got {self.processes}"
            )

    def _check_dev(self) -> None:
        titles = [dev.title for dev in self.dev]
        if repeated := {title for title in titles if titles.count(title) > 1}:
            raise ConfigError(f"dev sets need names of their own, got {sorted(repeated)} more than once")
        if not self.dev and (self.patience is not None or self.select is not None):
            raise ConfigError("`patience` and `select` need a dev set to measure on, got none")
        figures = [f"{dev.title}.{figure}" for dev in self.dev for figure in FIGURES[dev.kind]]
        if self.select is not None and self.select not in figures:
            raise ConfigError(f"`select` must be one of {', '.join(figures)}, got {shown(self.select)}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:  # Any: YAML or JSON
        """Read plain values, as written by `to_dict`; an invalid key, type or value is a `ConfigError`."""
        return read_settings(cls, values)

    @classmethod
    def read(cls, path: Path | str) -> TrainConfig:
        """Read a YAML file; relative paths start at its folder.

        Args:
            path: YAML file.

        Returns:
            Validated config.

        Raises:
            ConfigError: The file is unreadable, not YAML, or invalid.
            MissingDependencyError: PyYAML is not installed.
        """
        yaml = require("yaml", extra="train")
        path = Path(path)
        try:
            config = cls.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        return config.relative_to(path.parent.resolve())

    def to_dict(self) -> dict[str, Any]:  # Any: JSON
        """Convert to JSON values, defaults included."""
        values: dict[str, Any] = plain(self)
        return values

    def relative_to(self, folder: Path) -> TrainConfig:
        """Copy with relative paths resolved against a folder; other start models stay hub names."""
        model = self.start.model
        if model is not None and (folder / Path(model).expanduser()).is_dir():
            model = str(folder / Path(model).expanduser())
        return replace(
            self,
            output=folder / self.output,
            sources=tuple(replace(source, path=folder / source.path) for source in self.sources),
            dev=tuple(replace(dev, path=folder / dev.path) for dev in self.dev),
            start=replace(self.start, model=model),
        )


def default_settings() -> dict[str, Any]:  # Any: JSON
    """Optional keys of a run with their defaults, as from `TrainConfig.to_dict`."""
    return {field.name: plain(field.default) for field in fields(TrainConfig) if field.default is not MISSING}
