"""Training config: `TrainConfig`, read from YAML and validated before anything is loaded.

Paths in a file are relative to its folder. docs/guide/training.md explains every key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from gliclass_rerank._imports import require
from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.learn.training.config_checks import check_at_least, check_positive, check_share
from gliclass_rerank.learn.training.ppo_config import PpoConfig
from gliclass_rerank.learn.training.schema import plain, read_settings
from gliclass_rerank.learn.training.source_config import FIGURES, DevConfig, SourceConfig
from gliclass_rerank.model.config import AttentionPlan

Precision = Literal["float32", "bfloat16"]
ScheduleName = Literal["linear", "cosine", "constant"]
ObjectiveName = Literal["supervised", "ppo"]

_PPO: Final = PpoConfig()


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
class TrainConfig:
    """Training run.

    Attributes:
        output: Folder of the run; created if missing.
        sources: Training data, at least one source.
        dev: Dev sets; may be empty.
        start: Start checkpoint.
        objective: `supervised`, the sources' losses; `ppo`, rewards of sampled labels, for classification sources.
        ppo: Settings of the objective `ppo`.
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
    objective: ObjectiveName = "supervised"
    ppo: PpoConfig = _PPO
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
            check_positive("epochs", self.epochs)
        for name in ("queries_per_step", "processes", "checkpoint_every", "keep_checkpoints"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("steps", "threads", "padding_multiple", "eval_every", "patience"):
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), 1)
        rates = ("encoder_learning_rate", "head_learning_rate", "gate_learning_rate", "weight_decay")
        for name in ("seed", "frozen_layers", "max_example_tokens", *rates):
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), 0)
        if self.max_gradient_norm is not None:
            check_positive("max_gradient_norm", self.max_gradient_norm)
        check_share("warmup_share", self.warmup_share)
        check_share("dropout", self.dropout)
        self._check_processes()
        self._check_ppo()
        self._check_dev()

    def _check_processes(self) -> None:
        if self.processes > self.queries_per_step:
            raise ConfigError(
                f"`processes` share the items of a step, so there can be at most `queries_per_step` = "
                f"{self.queries_per_step}, got {self.processes}"
            )

    def _check_ppo(self) -> None:
        if self.objective != "ppo":
            return
        if kinds := sorted({source.kind for source in self.sources} - {"classification"}):
            raise ConfigError(f"`objective: ppo` is for classification sources, got {', '.join(kinds)}")
        if self.processes > 1:
            raise ConfigError(f"`objective: ppo` runs in one process, got `processes` {self.processes}")
        if self.dropout > 0:
            raise ConfigError(f"`objective: ppo` has no dropout, which changes the policy, got {self.dropout}")

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
