"""Learning from a feedback log: gather, train, judge, add a version."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from gliclass_rerank.cascade import load_ranker
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint
from gliclass_rerank.checkpoint.location import DEFAULT_RANKER
from gliclass_rerank.checkpoint.versions import current_folder, current_name
from gliclass_rerank.checks import checked_path
from gliclass_rerank.errors import ConfigError, DataError, InputError, shown
from gliclass_rerank.feedback import FeedbackLog
from gliclass_rerank.learn.training.reports import Report
from gliclass_rerank.learn.training.trainer import train
from gliclass_rerank.learn.updating.gate import Verdict, judge
from gliclass_rerank.learn.updating.gathering import Gathered, QueryFeedback, gather, is_held_out
from gliclass_rerank.learn.updating.held_out import Figures, figures
from gliclass_rerank.learn.updating.lists import gain_lists
from gliclass_rerank.learn.updating.network import copy_ranker, quick_settings, ranker_folder, write_ranker
from gliclass_rerank.learn.updating.plan import Work, train_config
from gliclass_rerank.learn.updating.propensity import Propensities, estimate
from gliclass_rerank.learn.updating.public_questions import public_questions
from gliclass_rerank.learn.updating.settings import LearnSettings
from gliclass_rerank.learn.updating.versions import NOTES, add_version, prune, set_current

LearnStage = Literal["scoring", "training", "measuring"]
OnProgress = Callable[[LearnStage, int, int], object]

_OURS: Final = frozenset({"learning"})


@dataclass(frozen=True)
class Learned:
    """Outcome of a learning.

    Attributes:
        model: Folder of the versions, which loads as its current one.
        version: Name of the new version.
        is_current: The new version is the current one: it was accepted, or forced.
        verdict: Verdict of the gate.
        num_queries: Queries trained on.
        num_signals: Signals in the log that could be used, held-out ones included.
        decay: Exponent of the estimated position bias.
        seconds: Time of this call.
    """

    model: Path
    version: str
    is_current: bool
    verdict: Verdict
    num_queries: int
    num_signals: int
    decay: float
    seconds: float


def learn(
    log: FeedbackLog | str | Path,
    *,
    out: str | Path,
    start: str | Path | None = None,
    settings: LearnSettings | None = None,
    force: bool = False,
    fresh: bool = False,
    on_progress: OnProgress | None = None,
) -> Learned:
    """Learn from a feedback log, or go on with a learning that was stopped or killed.

    Args:
        log: Log, or its file.
        out: Folder of the model's versions; created, with the start as its first version.
        start: Ranker to start from: folder, bundled model or hub name; None for the current version of `out`, or the
            bundled ranker.
        settings: Settings of learning; None for the defaults.
        force: Make the new version the current one whatever the gate says.
        fresh: Forget an unfinished learning in `out`.
        on_progress: Callback with the stage, what is done and the total.

    Returns:
        Outcome. A refused version is kept beside the others, but does not load.

    Raises:
        ConfigError: A setting is out of range, `out` holds something else, or an unfinished learning differs.
        DataError: The log cannot be read, or has nothing to learn from.
        CheckpointError: The start cannot be loaded.
        MissingDependencyError: A required package is not installed.
    """
    started = time.monotonic()
    settings, report = settings or LearnSettings(), on_progress or (lambda *_: None)
    model = checked_path("out", out)
    folder = _start_folder(model, start)
    work = Work.of(model, folder)
    goes_on = not fresh and work.goes_on(settings)
    gathered = _gathered(log)
    trained, held_out = _split(gathered.queries, settings)
    propensities = estimate(impression for query in trained for impression in query.impressions)
    if goes_on:
        parent = _claim(model, folder)
    else:
        lists = gain_lists(trained, propensities if settings.propensities == "estimated" else None, settings)
        if not lists:
            raise DataError(_nothing(gathered))
        parent = _claim(model, folder)
        work.begin(lists, settings, lambda done: report("scoring", done, len(lists)))
    num_queries = _train(work, settings, report)
    verdict = _judge(work, held_out, propensities, settings, report)
    is_current = verdict.is_accepted or force
    notes = {
        "parent": parent,
        "start": str(folder),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "queries": num_queries,
        "signals": gathered.num_signals,
        "verdict": verdict.to_dict(),
        "is_forced": force and not verdict.is_accepted,
        "settings": settings.to_dict(),
    }
    version = _add(model, work, notes, is_current=is_current)
    work.remove()
    prune(model, settings.keep_versions)
    seconds = time.monotonic() - started
    return Learned(model, version, is_current, verdict, num_queries, gathered.num_signals, propensities.decay, seconds)


def _add(model: Path, work: Work, notes: Mapping[str, Any], *, is_current: bool) -> str:  # Any: JSON
    """Add the candidate as a version with its notes; returns its name."""
    (work.candidate / NOTES).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")
    version = add_version(model, lambda target: os.replace(work.candidate, target))
    if is_current:
        set_current(model, version)
    return version


def _start_folder(model: Path, start: str | Path | None) -> Path:
    if start is not None:
        return ranker_folder(start)
    is_known = model.is_dir() and current_name(model) is not None
    return current_folder(model) if is_known else ranker_folder(DEFAULT_RANKER)


def _gathered(log: FeedbackLog | str | Path) -> Gathered:
    if isinstance(log, FeedbackLog):
        return gather(log)
    path = checked_path("log", log)
    if not path.is_file():
        raise InputError(f"`log` must be a feedback log, and there is no file {shown(str(path))}")
    with FeedbackLog(path) as opened:
        return gather(opened)


def _split(
    queries: Sequence[QueryFeedback], settings: LearnSettings
) -> tuple[list[QueryFeedback], list[QueryFeedback]]:
    """Queries to train on, and held-out ones."""
    parts: tuple[list[QueryFeedback], list[QueryFeedback]] = ([], [])
    for query in queries:
        parts[is_held_out(query.query, share=settings.held_out, seed=settings.seed)].append(query)
    return parts[0], parts[1][: settings.max_gate_queries]


def _nothing(gathered: Gathered) -> str:
    found = f"the log has nothing to learn from: {gathered.num_signals} signals on {len(gathered.queries)} queries"
    if gathered.num_without_texts:
        found += f", and {gathered.num_without_texts} on rankings without texts (`log_texts=False`)"
    return found


def _claim(model: Path, start: Path) -> str | None:
    """Make the folder one of versions, the first of which is the start.

    Args:
        model: Folder.
        start: Folder of the start.

    Returns:
        Name of the version that is the start; None if it comes from elsewhere.

    Raises:
        ConfigError: The folder holds something else.
    """
    if model.is_dir() and current_name(model) is not None:
        return start.name if start.resolve().parent == model.resolve() else None
    strange = {path.name for path in model.iterdir() if path.name not in _OURS} if model.is_dir() else set()
    if {name for name in strange if not name.startswith(".") and name != "0001"}:
        raise ConfigError(f"`{model}` is not empty and holds no versions; `out` needs a folder of its own")
    model.mkdir(parents=True, exist_ok=True)
    name = "0001" if (model / "0001").is_dir() else add_version(model, lambda target: copy_ranker(start, target))
    set_current(model, name)
    return name


def _train(work: Work, settings: LearnSettings, report: OnProgress) -> int:
    """Train to the end, and write the ranker with the new weights; returns the number of queries."""
    config = train_config(work, settings)

    def on_report(found: Report) -> None:
        report("training", found.step, found.num_steps)

    train(config, on_report=on_report)
    network = work.folder / "network"
    if not work.candidate.is_dir():
        if not network.is_dir():
            save_checkpoint(load_checkpoint(work.run / "last"), network, weights_dtype=torch.float16)
        write_ranker(work.start, network, work.candidate)
    return work.num_lists


def _judge(
    work: Work,
    held_out: Sequence[QueryFeedback],
    propensities: Propensities,
    settings: LearnSettings,
    report: OnProgress,
) -> Verdict:
    public = public_questions()
    count = len(held_out) + len(public)

    def measured(folder: Path, before: int) -> Figures:
        ranker = load_ranker(quick_settings(folder))
        return figures(
            ranker, held_out, propensities, public, lambda done: report("measuring", before + done, 2 * count)
        )

    return judge(measured(work.start, 0), measured(work.candidate, count), settings)
