"""Who takes part in a race of rerankers: what they are called, how they are opened, what they read.

All but the trained ones are random networks of one size, that of `minilm-l6-v1` (`networks.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from loads import Question

from gliclass_rerank import Reranker
from gliclass_rerank.cascade import Cascade
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL, DEFAULT_RANKER
from gliclass_rerank.errors import ConfigError, MissingDependencyError
from gliclass_rerank.model.batch import length_groups
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.runtime.bucketing import filling
from gliclass_rerank.runtime.resolve import BackendName, has_native_bfloat16
from gliclass_rerank.types import Blocks

Opened = TypeVar("Opened")

BACKENDS: tuple[tuple[BackendName, str], ...] = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("onnx", "int8"),
    ("openvino", "bfloat16"),
    ("openvino", "int8"),
)


class UnavailableError(Exception):
    """A contestant cannot run here; the message says why."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of one ranking.

    Attributes:
        real: Of the texts, markers included.
        processed: By the linear layers, with padding and filling.
    """

    real: int
    processed: int


class Runner(Protocol):
    """A loaded contestant."""

    def scores(self, question: Question) -> Sequence[float]:
        """One score a passage, in the order of the passages."""

    def tokens(self, question: Question) -> Tokens:
        """What it reads for that."""


@dataclass(frozen=True)
class Contestant:
    """One row of the table.

    Attributes:
        name: What it is called.
        open: Loads it with as many threads as torch has; can be pickled.
        is_trained: Whether its order means anything. A trained one has 512 positions and takes no part with a prefix.
    """

    name: str
    open: Callable[[], Runner]
    is_trained: bool = False


@dataclass(frozen=True)
class OpenOurs:
    """Opens a reranker of this library.

    Attributes:
        model: Its checkpoint: a folder, or a bundled model's name.
        plan: The attention plan; None for the checkpoint's.
        backend: What runs the layers.
        dtype: Their precision.
    """

    model: str | Path
    plan: AttentionPlan | None
    backend: BackendName
    dtype: str

    def __call__(self) -> Runner:
        """Open it; a runtime that is not installed is an error of the library's."""
        check_precision(self.backend, self.dtype)
        return Ours(Reranker(self.model, device="cpu", plan=self.plan, backend=self.backend, dtype=self.dtype))


def ours(marker: Path) -> list[Contestant]:
    """This library on every backend: both plans with random weights, and the bundled models."""
    found = []
    for label, model, plan in (
        ("shared_query", marker, "shared_query"),
        ("joint", marker, "joint"),
        *((name, name, None) for name in dict.fromkeys((DEFAULT_MODEL, DEFAULT_RANKER))),
    ):
        found += [
            Contestant(f"{label}, {backend} {dtype}", OpenOurs(model, plan, backend, dtype), is_trained=plan is None)
            for backend, dtype in BACKENDS
        ]
    return found


class Ours:
    """A reranker of this library."""

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker

    def scores(self, question: Question) -> Sequence[float]:
        """See `Runner`."""
        ranking = self._reranker.rank(question.query, question.passages, examples=question.examples)
        return [hit.logit for hit in sorted(ranking, key=lambda hit: hit.index)]

    def tokens(self, question: Question) -> Tokens:
        """Counted from the plan and the batches that the reranker runs; see `Runner`.

        Of a cascade's second part they are those of as many passages as it reads, the first ones in the list.
        """
        pipeline = self._reranker._pipeline
        if not isinstance(pipeline, Cascade):
            return _counted(pipeline, question)
        refined = replace(question, passages=question.passages[: pipeline.config.rerank_depth])
        first, second = _counted(pipeline.first, question), _counted(pipeline._second, refined)
        return Tokens(first.real + second.real, first.processed + second.processed)


def _counted(pipeline: Pipeline, question: Question) -> Tokens:
    request = ScoringRequest(question.query, question.passages, examples=tuple(question.examples))
    plan = pipeline._planner.plan(request, truncate_side="candidates")
    # What the engine batches, and what runs alone.
    alone, batched = [], {}
    for number, request in enumerate(plan.requests):
        if isinstance(request, Blocks):
            alone.append(len(request.query_ids))
            batched |= {(number, index): len(ids) for index, ids in enumerate(request.candidate_ids)}
        else:
            batched[number, 0] = len(request.token_ids)
    batches = length_groups(batched, pipeline._executor.batch_tokens)
    if pipeline.runtime.backend == "torch":
        processed = [len(batch) * batched[batch[0]] for batch in batches]
    else:  # padding is attended to, and goes through no linear layer
        processed = [sum(batched[each] for each in batch) for batch in batches]
    processed = [*alone, *processed]
    if pipeline.runtime.backend == "openvino" or pipeline.runtime.dtype == "bfloat16":
        processed = [num_tokens + filling(num_tokens) for num_tokens in processed]
    return Tokens(sum(alone) + sum(batched.values()), sum(processed))


def opened(openers: Mapping[str, Callable[[], Opened]]) -> tuple[dict[str, Opened], dict[str, str]]:
    """Open what can be opened here.

    Args:
        openers: By name.

    Returns:
        What was opened, and why the rest was not, by name.
    """
    found: dict[str, Opened] = {}
    missing: dict[str, str] = {}
    for name, open_one in openers.items():
        with _noted(missing, name):
            found[name] = open_one()
    return found, missing


@contextmanager
def _noted(missing: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except (UnavailableError, MissingDependencyError, ConfigError) as error:
        missing[name] = str(error)


def check_precision(backend: BackendName, dtype: str) -> None:
    """Refuse what torch would do, but very slowly; other runtimes refuse it themselves."""
    if (backend, dtype) == ("torch", "bfloat16") and not has_native_bfloat16():
        raise UnavailableError("this processor has no bfloat16")
