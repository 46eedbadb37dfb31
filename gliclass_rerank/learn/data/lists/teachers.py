"""Teachers of the lists, and their options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gliclass_rerank.errors import ConfigError, listed
from gliclass_rerank.learn.data.lists.mixtures import CROSS, DENSE, LATE, MPNET
from gliclass_rerank.text_models.options import ModelOptions

MINILM: Final = "all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Teacher:
    """Teacher of the lists.

    Attributes:
        options: Runtime options.
        width: Dimension of its vectors; None for a teacher that scores pairs.
    """

    options: ModelOptions
    width: int | None = None


# Small batches are faster on a CPU whose caches hold their states.
_SHARED: Final = ModelOptions(max_tokens=256, batch_tokens=1024)

TEACHERS: Final[Mapping[str, Teacher]] = {
    MPNET: Teacher(replace(_SHARED, kind="encoder", dtype="bfloat16"), 768),
    MINILM: Teacher(replace(_SHARED, kind="encoder", dtype="bfloat16"), 384),
    DENSE: Teacher(
        replace(
            _SHARED,
            kind="encoder",
            pooling="cls",
            query_prefix="Represent this sentence for searching relevant passages: ",
        ),
        384,
    ),
    CROSS: Teacher(replace(_SHARED, kind="cross-encoder")),
    LATE: Teacher(
        replace(_SHARED, kind="late-interaction", query_prefix="[unused0]", passage_prefix="[unused1]", query_tokens=32)
    ),
}


def teacher_named(name: str, *, threads: int | None = None) -> Teacher:
    """Teacher by its key in `TEACHERS`, with threads per forward pass; an unknown name is a `ConfigError`."""
    if name not in TEACHERS:
        raise ConfigError(f"a teacher must be one of {listed(TEACHERS)}, got {name!r}")
    teacher = TEACHERS[name]
    return replace(teacher, options=replace(teacher.options, threads=threads))
