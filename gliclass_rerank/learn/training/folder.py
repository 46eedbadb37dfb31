"""The folder of a run: what lies where, and how it survives a kill at any moment.

```
<output>/run.json                   the config, and the size of every data file
         states/step-000100/        what a resumed run needs: model/ (a checkpoint), optimizer.safetensors, state.json
         best/ last/                checkpoints: the best one on the dev sets, and the newest one
         train.csv dev.csv          one row a step, one row an evaluation
         curves.png
```

Whatever is written appears whole or not at all: it is written beside its place and renamed. Nothing is pickled.
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

# What may change between two parts of a run: none of these decides what is learned, rounding aside.
_FREE_KEYS: Final = frozenset(
    {"output", "device", "threads", "processes", "checkpoint_every", "keep_checkpoints", "plot"}
)
_STATE: Final = re.compile(r"step-(\d+)")
# What `--fresh` throws away; what makes the folder a run's goes last, so that a kill leaves a run.
_OURS: Final = ("states", "best", "last", "train.csv", "dev.csv", "curves.png", "run.json")


@dataclass(frozen=True)
class Progress:
    """How far a run is; everything else follows from the config and this.

    Attributes:
        step: Optimizer steps done.
        num_tokens: Tokens trained on, without padding.
        num_padded: The same with padding.
        seconds: Time spent on steps, evaluations and saving not included.
        best_figure: The best value of what `select` names, or None before the first evaluation.
        best_step: The step at which it was measured.
        evaluations_since_best: Evaluations after that.
        stopped_early: Whether patience has run out.
    """

    step: int = 0
    num_tokens: int = 0
    num_padded: int = 0
    seconds: float = 0.0
    best_figure: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    stopped_early: bool = False


@dataclass(frozen=True)
class Saved:
    """A state read back.

    Attributes:
        progress: How far it was.
        checkpoint: Model and tokenizer.
        optimizer: The optimizer's tensors.
    """

    progress: Progress
    checkpoint: Checkpoint
    optimizer: Mapping[str, torch.Tensor]


class RunFolder:
    """A run's files.

    Args:
        path: The folder; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._states = path / "states"

    def holds(self, config: TrainConfig, data_sizes: Mapping[str, int]) -> bool:
        """Whether this very run has begun here.

        Args:
            config: The run's config.
            data_sizes: Bytes of each data file.

        Returns:
            True if it has, False if the folder is free.

        Raises:
            ConfigError: The folder holds another run, or something else.
        """
        if not (self.path / "run.json").is_file():
            self._check_free()
            return False
        known = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        # A key that an older version did not know had the effect of its default.
        self._check_same({**default_settings(), **known["config"]}, config.to_dict(), "config differs in")
        self._check_same(known["data_bytes"], data_sizes, "data differs: not the size they were")
        return True

    def begin(self, config: TrainConfig, data_sizes: Mapping[str, int]) -> None:
        """Make the folder this run's; what another run left in it is thrown away.

        Args:
            config: The run's config.
            data_sizes: Bytes of each data file.

        Raises:
            ConfigError: The folder holds something that is no run.
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
        # Names that start with a dot are what a killed process was about to write.
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
        """Finish or undo what a killed process left half-done."""
        for folder in (self.path, self._states):
            for entry in folder.glob(".*"):
                name, _, kind = entry.name[1:].rpartition(".")
                if kind == "old" and not (folder / name).exists():
                    os.replace(entry, folder / name)
                elif kind == "old" or kind.startswith("new"):  # what was staged for `x.new` is called `x.new-...`
                    _remove(entry)

    def write_text(self, name: str, text: str) -> None:
        """Write a small file, whole or not at all."""
        staging = self.path / f".{name}.new"
        staging.write_text(text, encoding="utf-8")
        os.replace(staging, self.path / name)

    def save_model(self, name: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint folder, such as `best`, in place of the one that has this name.

        Args:
            name: Name of the folder.
            checkpoint: What to write.
        """
        target, new, old = self.path / name, self.path / f".{name}.new", self.path / f".{name}.old"
        _remove(new)
        save_checkpoint(checkpoint, new)
        # A folder cannot replace another one in one go; a kill between the two is mended by the next start.
        _remove(old)
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
        _remove(old)

    def save_state(
        self, progress: Progress, checkpoint: Checkpoint, optimizer: Mapping[str, torch.Tensor], *, keep: int
    ) -> None:
        """Keep what a resumed run needs, and forget the oldest states.

        Args:
            progress: How far the run is.
            checkpoint: Model and tokenizer.
            optimizer: The optimizer's tensors.
            keep: States to keep, this one included.
        """
        self._states.mkdir(exist_ok=True)
        target = self._states / f"step-{progress.step:06d}"
        if target.exists():
            return  # written by this run before it was killed: the same bytes
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
        """Read the newest state.

        Returns:
            The state, or None if there is none.

        Raises:
            CheckpointError: It cannot be read.
        """
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
