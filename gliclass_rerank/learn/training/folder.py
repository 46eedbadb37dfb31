"""Crash-safe folder of a run.

```
<output>/run.json                   config, and the size of every data file
         states/step-000100/        resumable state: model/ (a checkpoint), optimizer.safetensors, state.json
         best/ last/                best checkpoint on the dev sets, and newest checkpoint
         train.csv dev.csv          one row per step, one row per evaluation
         curves.png
```

All writes are atomic. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gliclass_rerank.checkpoint.loading import Checkpoint, load_checkpoint, save_checkpoint
from gliclass_rerank.errors import CheckpointError, ConfigError, listed
from gliclass_rerank.learn.training.config import TrainConfig, default_settings

# Settings that may change between parts of a run: they do not affect the result, rounding aside.
_FREE_KEYS: Final = frozenset(
    {"output", "device", "threads", "processes", "checkpoint_every", "keep_checkpoints", "plot"}
)
_STATE: Final = re.compile(r"step-(\d+)")
# Removed by `--fresh`; the file that marks a run goes last, so that a kill leaves a run.
_OURS: Final = ("states", "best", "last", "train.csv", "dev.csv", "curves.png", "run.json")


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        step: Optimizer steps done.
        num_tokens: Tokens trained on, without padding.
        num_padded: Tokens trained on, with padding.
        seconds: Time spent on steps, without evaluations and saving.
        best_figure: Best value of the selection metric; None before the first evaluation.
        best_step: Step of the best value.
        evaluations_since_best: Evaluations after that.
        stopped_early: Patience has run out.
        reward_baseline: Running mean of a PPO stage's rewards; None without.
    """

    step: int = 0
    num_tokens: int = 0
    num_padded: int = 0
    seconds: float = 0.0
    best_figure: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    stopped_early: bool = False
    reward_baseline: float | None = None


@dataclass(frozen=True)
class Saved:
    """Restored state.

    Attributes:
        progress: Progress of the run.
        checkpoint: Model and tokenizer.
        optimizer: Tensors of the optimizer.
    """

    progress: Progress
    checkpoint: Checkpoint
    optimizer: Mapping[str, torch.Tensor]


class RunFolder:
    """Files of a run.

    Args:
        path: Folder; may be missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._states = path / "states"

    def holds(self, config: TrainConfig, data_sizes: Mapping[str, int]) -> bool:
        """Test if this run has begun here; False if the folder is free.

        Args:
            config: Config of the run.
            data_sizes: Bytes of each data file.

        Returns:
            True for this run.

        Raises:
            ConfigError: The folder holds another run, or something else.
        """
        if not (self.path / "run.json").is_file():
            self._check_free()
            return False
        known = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        # A key unknown to an older version had its default's effect.
        self._check_same({**default_settings(), **known["config"]}, config.to_dict(), "config differs in")
        self._check_same(known["data_bytes"], data_sizes, "data differs: not the size they were")
        return True

    def begin(self, config: TrainConfig, data_sizes: Mapping[str, int]) -> None:
        """Claim the folder for this run, deleting another run's files.

        Args:
            config: Config of the run.
            data_sizes: Bytes of each data file.

        Raises:
            ConfigError: The folder holds something other than a run.
        """
        if (self.path / "run.json").is_file():
            for name in _OURS:
                _remove(self.path / name)
        else:
            self._check_free()
        self.path.mkdir(parents=True, exist_ok=True)
        self.tidy()
        run = {"config": config.to_dict(), "data_bytes": dict(data_sizes)}
        self.write_text("run.json", json.dumps(run, indent=2) + "\n")

    def _check_free(self) -> None:
        # Names with a leading dot are unfinished writes of a killed process.
        if self.path.exists() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise ConfigError(
                f"`{self.path}` is not empty and holds no training run; `output` needs a folder of its own"
            )

    def _check_same(self, known: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:  # Any: JSON
        missing = object()
        changed = {key for key in known.keys() | now.keys() if known.get(key, missing) != now.get(key, missing)}
        if changed := changed - _FREE_KEYS:
            raise ConfigError(
                f"`{self.path}` holds a run whose {what} {listed(changed)}; "
                "give another `output`, or start anew with `--fresh`"
            )

    def tidy(self) -> None:
        """Complete or undo the interrupted writes of a killed process."""
        for folder in (self.path, self._states):
            for entry in folder.glob(".*"):
                name, _, kind = entry.name[1:].rpartition(".")
                if kind == "old" and not (folder / name).exists():
                    os.replace(entry, folder / name)
                elif kind == "old" or kind.startswith("new"):  # staging names of `x.new` are `x.new-...`
                    _remove(entry)

    def write_text(self, name: str, text: str) -> None:
        """Write a small file atomically."""
        staging = self.path / f".{name}.new"
        staging.write_text(text, encoding="utf-8")
        os.replace(staging, self.path / name)

    def save_model(self, name: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint folder, such as `best`, replacing the old one."""
        target, new, old = self.path / name, self.path / f".{name}.new", self.path / f".{name}.old"
        _remove(new)
        save_checkpoint(checkpoint, new)
        # A folder cannot be replaced atomically; the next start repairs a kill in between.
        _remove(old)
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
        _remove(old)

    def save_state(
        self, progress: Progress, checkpoint: Checkpoint, optimizer: Mapping[str, torch.Tensor], *, keep: int
    ) -> None:
        """Save a resumable state, keeping the newest `keep` states."""
        self._states.mkdir(exist_ok=True)
        target = self._states / f"step-{progress.step:06d}"
        if target.exists():
            return  # the same state, written before a kill
        staging = Path(tempfile.mkdtemp(dir=self._states, prefix=f".{target.name}-", suffix=".new"))
        save_checkpoint(checkpoint, staging / "model")
        tensors = {name: tensor.cpu().contiguous() for name, tensor in optimizer.items()}
        save_file(tensors, staging / "optimizer.safetensors")
        (staging / "state.json").write_text(json.dumps(asdict(progress), indent=2) + "\n", encoding="utf-8")
        staging.chmod(0o755)
        os.replace(staging, target)
        for old in self._all_states()[:-keep]:
            _remove(old)

    def load_state(self) -> Saved | None:
        """Read the newest state, or None; a `CheckpointError` if it is unreadable."""
        states = self._all_states()
        if not states:
            return None
        newest = states[-1]
        try:
            values = json.loads((newest / "state.json").read_text(encoding="utf-8"))
            optimizer = load_file(newest / "optimizer.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(
                f"`{newest}` cannot be read ({error}); delete it to resume from an older one"
            ) from error
        return Saved(Progress(**values), load_checkpoint(newest / "model"), optimizer)

    def _all_states(self) -> list[Path]:
        if not self._states.is_dir():
            return []
        matches = {entry: _STATE.fullmatch(entry.name) for entry in self._states.iterdir()}
        return sorted((entry for entry, match in matches.items() if match), key=lambda entry: int(entry.name[5:]))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
