"""The network of a ranker that learns, and the ranker with its new weights.

Of a cascade the first network learns (docs/decisions/0044-learning-from-a-log.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gliclass_rerank.cascade import Cascade, CascadeConfig, is_cascade, part_folder, save_cascade
from gliclass_rerank.checkpoint.location import locate, read_config
from gliclass_rerank.files.atomic_write import atomic_folder
from gliclass_rerank.learn.updating.versions import NOTES
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.runtime.resolve import has_native_bfloat16, resolve_device
from gliclass_rerank.settings import RerankerSettings

_FIRST: Final = "first"
_SECOND: Final = "second"
# Lists scored at once.
_LISTS: Final = 8


def learning_folder(ranker: Path) -> Path:
    """Folder of the network that learns: a cascade's first one, else the checkpoint itself."""
    values = read_config(ranker)
    return part_folder(ranker, CascadeConfig.from_dict(values).first) if is_cascade(values) else ranker


def write_ranker(ranker: Path, learned: Path, target: Path) -> None:
    """Write a ranker with other weights of the network that learns.

    Args:
        ranker: Folder of the start.
        learned: Checkpoint of that network.
        target: New folder.
    """
    values = read_config(ranker)
    if not is_cascade(values):
        copy_ranker(learned, target)
        return
    config = CascadeConfig.from_dict(values)
    second = part_folder(ranker, config.second)
    is_own = second.is_relative_to(ranker)  # a bundled one is named, not copied
    name = _SECOND if is_own else config.second
    parts = {_FIRST: learned, **({_SECOND: second} if is_own else {})}
    save_cascade(replace(config, first=_FIRST, second=name), target, parts)


def copy_ranker(ranker: Path, target: Path) -> None:
    """Copy a ranker to a new folder, without the notes of a version, which tell of the folder that it came from."""
    with atomic_folder(target) as staging:
        shutil.copytree(ranker, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(NOTES))


def list_logits(
    ranker: Pipeline | Cascade, lists: Sequence[tuple[str, Sequence[str]]], on_scored: Callable[[int], object]
) -> list[list[float]]:
    """Score lists, several at once.

    Args:
        ranker: Pipeline or cascade.
        lists: Queries with their distinct passages.
        on_scored: Callback with the number of lists scored so far.

    Returns:
        Logits of each list.
    """
    found: list[list[float]] = []
    for first in range(0, len(lists), _LISTS):
        requests = [ScoringRequest(query, passages) for query, passages in lists[first : first + _LISTS]]
        found += [scored.logits for scored in ranker.score(requests, truncate_side="candidates")]
        on_scored(len(found))
    return found


def quick_settings(ranker: Path) -> RerankerSettings:
    """Settings that rank quickest without an export, which new weights would need first."""
    encoder = read_config(learning_folder(ranker)).get("encoder_config")
    is_bert = isinstance(encoder, dict) and encoder.get("model_type") == "bert"
    on_cpu = resolve_device(None).type == "cpu"
    dtype = "bfloat16" if is_bert and on_cpu and has_native_bfloat16() else None
    return RerankerSettings(ranker, backend="torch", dtype=dtype)


def ranker_folder(name: str | Path) -> Path:
    """Folder of a ranker by name; a `CheckpointError` unless it exists."""
    folder = locate(name)
    learning_folder(folder)
    return folder
